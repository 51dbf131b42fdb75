"""A bidirectional LSTM as an energy of sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ebmtrain.models.layers import BaseStd, SequenceLayout, add_base_energy, base_precision
from ebmtrain.types import Count, Positive


class Lstm(nn.Module):
    """E(x) = f(h_forward, h_backward) + ||x||^2 / (2 base_std^2), f a perceptron with one hidden
    layer.

    h_forward is the state of the last layer after the last step, h_backward that of the backward
    direction after the first step: both depend on the whole sequence. (The backward half of
    `out[:, -1]` would depend on the last step only.)

    Source: Hochreiter & Schmidhuber (Neural Computation 9, 1997); Graves & Schmidhuber (Neural
    Networks 18, 2005) for two directions. The forget gates have an initial bias of 1 (Gers et al.,
    Neural Computation 12, 2000), so that gradients reach the far ends.

    Args:
        event_shape: (length, channels), or (length,) for one channel.
        width: units per direction and layer.
        depth: number of layers; each reads both directions of the one below.
        input_scale: > 0, factor on the (standardized) input.
        base_std: standard deviation of the Gaussian base measure in units of x, >= 1e-6; null:
            none.
        ragged: sequences have different lengths (see `masks`).

    Shapes: (batch, *event_shape) -> (batch,).

    Raises:
        ValueError: the points are not sequences.
    """

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        width: Count = 32,
        depth: Count = 2,
        input_scale: Positive = 1.0,
        base_std: BaseStd | None = 1.5,
        ragged: bool = False,
    ):
        super().__init__()
        self.layout = SequenceLayout.of(event_shape, ragged)
        self.lstm = nn.LSTM(
            self.layout.channels, width, num_layers=depth, batch_first=True, bidirectional=True
        )
        with torch.no_grad():
            for name, bias in self.lstm.named_parameters():
                if name.startswith("bias_ih"):  # order of the gates: input, forget, cell, output
                    bias[width : 2 * width] += 1.0
        self.hidden = nn.Linear(2 * width, width)
        self.output = nn.Linear(width, 1)
        self.input_scale = input_scale
        self.base_precision = base_precision(base_std)

    def forward(self, x: Tensor) -> Tensor:
        values, mask = self.layout.read(x)
        scaled = self.input_scale * values
        ends = (
            self._end_states(scaled)
            if mask is None
            else self.ragged_end_states(scaled, mask.sum(1))
        )
        h = silu(self.hidden(ends))
        return add_base_energy(self.output(h).squeeze(1), values, self.base_precision)

    def _end_states(self, sequence: Tensor) -> Tensor:
        """[h_forward, h_backward] of the last layer, (batch, 2 * width)."""
        _, (h, _) = self.lstm(sequence)  # (2 * depth, batch, width), last layer last
        return torch.cat([h[-2], h[-1]], 1)

    def ragged_end_states(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        """`_end_states` for sequences of different lengths: each is read from its first step to its
        own last one and back.

        All steps are read, and the states after the last one are ignored: no synchronisation is
        needed. (Packed sequences need the lengths on the CPU and took twice as long there.)

        Args:
            lengths: (batch,) int64, >= 1.
        """
        t, last = torch.arange(sequence.shape[1], device=sequence.device), lengths[:, None] - 1
        back = torch.where(t > last, t, last - t)  # reverses each sequence; its own inverse
        h = sequence
        states: list[Tensor] = []
        for layer in range(self.lstm.num_layers):
            forward = self._run_direction(h, 2 * layer)
            backward = self._run_direction(_gather_steps(h, back), 2 * layer + 1)
            states = [_gather_steps(forward, last), _gather_steps(backward, last)]
            h = torch.cat([forward, _gather_steps(backward, back)], 2)
        return torch.cat(states, 2).squeeze(1)

    def _run_direction(self, sequence: Tensor, which: int) -> Tensor:
        """States of one direction of one layer after each step, (batch, length, width).

        Args:
            which: 2 * layer, plus 1 for the backward direction.
        """
        zero = sequence.new_zeros(1, len(sequence), self.lstm.hidden_size)
        weights: list[Tensor] = [*self.lstm.all_weights[which]]
        states, *_ = torch.lstm(sequence, (zero, zero), weights, True, 1, 0.0, True, False, True)
        return states


def _gather_steps(sequence: Tensor, steps: Tensor) -> Tensor:
    """Selected steps of each sequence: (batch, length, width), (batch, n) int64 -> (batch, n,
    width)."""
    return sequence.gather(1, steps[..., None].expand(-1, -1, sequence.shape[2]))
