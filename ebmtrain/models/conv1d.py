"""Convolutions along a sequence as an energy."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import silu

from ebmtrain.masks import fill_zeros, prefix_mask
from ebmtrain.models.layers import BaseStd, SequenceLayout, add_base_energy, base_precision
from ebmtrain.types import Count, Positive


class Conv1d(nn.Module):
    """E(x) = w . h + b + ||x||^2 / (2 base_std^2), h what strided convolutions make of x.

    Each layer has a window of 4 steps, a stride of 2 and a zero beyond each end, so that it halves
    the length and meets every step twice (the outermost two once); channels double from layer to
    layer. The output is read at every place (flattened, not averaged), so that the energy may
    depend on where in the sequence something is. A shorter sequence has zeros beyond its own end in
    every layer, half as many places in each as in the one below (rounded down, but one), and is
    read at these.

    Args:
        event_shape: (length, channels), or (length,) for one channel; length >= 2^depth.
        width: channels of the first layer.
        depth: number of layers.
        input_scale: factor on the (standardized) input.
        base_std: standard deviation of the base measure in units of x, at least 1e-6; null: none.
        ragged: sequences are of different lengths (see `masks`).

    Shapes: (batch, *event_shape) -> (batch,).

    Raises:
        ValueError: points are no sequences, or too short for `depth`.
    """

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        width: Count = 32,
        depth: Count = 3,
        input_scale: Positive = 1.0,
        base_std: BaseStd | None = None,
        ragged: bool = False,
    ):
        super().__init__()
        self.steps = SequenceLayout.of(event_shape, ragged)
        places = self.steps.length >> depth
        if not places:
            raise ValueError(
                f"{depth} layers halve a sequence of {self.steps.length} steps to nothing: lower "
                "model.depth"
            )
        widths = [self.steps.channels, *(width << i for i in range(depth))]
        self.layers = nn.ModuleList(
            nn.Conv1d(*pair, kernel_size=4, stride=2, padding=1) for pair in pairwise(widths)
        )
        self.output = nn.Linear(widths[-1] * places, 1)
        self.input_scale = input_scale
        self.base_precision = base_precision(base_std)

    def forward(self, x: Tensor) -> Tensor:
        values, there = self.steps.read(x)
        h = self.input_scale * values.transpose(1, 2)
        for i, layer in enumerate(self.layers, 1):
            h = silu(layer(h))
            if there is not None:
                left = (there.sum(1) >> i).clamp(min=1)
                h = fill_zeros(h.transpose(1, 2), prefix_mask(left, h.shape[2])).transpose(1, 2)
        return add_base_energy(self.output(h.flatten(1)).squeeze(1), values, self.base_precision)
