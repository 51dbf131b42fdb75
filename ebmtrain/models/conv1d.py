"""A strided convolutional network as an energy of sequences."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import silu

from ebmtrain.masks import fill_zeros, prefix_mask
from ebmtrain.models.layers import BaseStd, SequenceLayout, add_base_energy, base_precision
from ebmtrain.types import Count, Positive


class Conv1d(nn.Module):
    """E(x) = w . h(x) + b + ||x||^2 / (2 base_std^2), h strided convolutions.

    Each layer has kernel size 4, stride 2 and padding 1, so it halves the length and covers every
    step twice (the two outermost once). The channels double from layer to layer. The output layer
    sees every position (flattened, not averaged), so the energy may depend on the position in the
    sequence. A shorter sequence is zero after its own end in every layer, with half as many
    positions per layer (rounded down, at least one).

    Args:
        event_shape: (length, channels), or (length,) for one channel; length >= 2^depth.
        width: channels of the first layer.
        depth: number of layers.
        input_scale, base_std, ragged: as for `Lstm`.

    Shapes: (batch, *event_shape) -> (batch,).

    Raises:
        ValueError: the points are not sequences, or too short for `depth`.
    """

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        width: Count = 32,
        depth: Count = 3,
        input_scale: Positive = 1.0,
        base_std: BaseStd | None = 1.5,
        ragged: bool = False,
    ):
        super().__init__()
        self.layout = SequenceLayout.of(event_shape, ragged)
        places = self.layout.length >> depth
        if not places:
            raise ValueError(
                f"{depth} layers halve a sequence of {self.layout.length} steps to nothing: lower "
                "model.depth"
            )
        widths = [self.layout.channels, *(width << i for i in range(depth))]
        self.layers = nn.ModuleList(
            nn.Conv1d(*pair, kernel_size=4, stride=2, padding=1) for pair in pairwise(widths)
        )
        self.output = nn.Linear(widths[-1] * places, 1)
        self.input_scale = input_scale
        self.base_precision = base_precision(base_std)

    def forward(self, x: Tensor) -> Tensor:
        values, mask = self.layout.read(x)
        h = self.input_scale * values.transpose(1, 2)
        for i, layer in enumerate(self.layers, 1):
            h = silu(layer(h))
            if mask is not None:
                lengths = (mask.sum(1) >> i).clamp(min=1)
                h = fill_zeros(h.transpose(1, 2), prefix_mask(lengths, h.shape[2])).transpose(1, 2)
        return add_base_energy(self.output(h.flatten(1)).squeeze(1), values, self.base_precision)
