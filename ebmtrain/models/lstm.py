"""A long short-term memory that reads a sequence from both ends, as an energy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ebmtrain.models.base_measure import Width, precision_of, with_base
from ebmtrain.models.sequences import Steps
from ebmtrain.types import Count, Positive


class Lstm(nn.Module):
    """E(x) = f(h_forward, h_backward) + ||x||^2 / (2 base_std^2), f a perceptron of one hidden
    layer.

    h_forward is the last layer's state after the last step, h_backward that of the direction that
    reads from the end, after the first step: each has seen the whole sequence. (The output at the
    last step, `out[:, -1]`, holds of the backward direction a state that has seen one step only.)

    Source: Hochreiter & Schmidhuber (Neural Computation 9, 1997); Graves & Schmidhuber (Neural
    Networks 18, 2005) for both directions. Forget gates open at the start (bias 1: Gers et al.,
    Neural Computation 12, 2000), or the far ends would be out of reach of the gradient.

    Args:
        event_shape: (length, channels), or (length,) for one channel.
        width: units of each direction and layer.
        depth: layers; each reads both directions of the one below.
        input_scale: factor on the (standardized) input.
        base_std: standard deviation of the base measure in units of x, at least 1e-6; null: none.

    Shapes: (batch, *event_shape) -> (batch,).

    Raises:
        ValueError: points are no sequences.
    """

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        width: Count = 32,
        depth: Count = 2,
        input_scale: Positive = 1.0,
        base_std: Width | None = None,
    ):
        super().__init__()
        self.steps = Steps.of(event_shape)
        self.lstm = nn.LSTM(
            self.steps.channels, width, num_layers=depth, batch_first=True, bidirectional=True
        )
        with torch.no_grad():
            for name, bias in self.lstm.named_parameters():
                if name.startswith("bias_ih"):  # gates stand in the order input, forget, cell, out
                    bias[width : 2 * width] += 1.0
        self.hidden = nn.Linear(2 * width, width)
        self.output = nn.Linear(width, 1)
        self.input_scale = input_scale
        self.base_precision = precision_of(base_std)

    def forward(self, x: Tensor) -> Tensor:
        h = silu(self.hidden(self.ends(self.input_scale * self.steps.read(x))))
        return with_base(self.output(h).squeeze(1), x.flatten(1), self.base_precision)

    def ends(self, sequence: Tensor) -> Tensor:
        """[h_forward, h_backward] of the last layer, (batch, 2 * width)."""
        _, (h, _) = self.lstm(sequence)  # (2 * depth, batch, width), last layer last
        return torch.cat([h[-2], h[-1]], 1)
