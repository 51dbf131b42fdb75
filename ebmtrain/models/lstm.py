"""A long short-term memory that reads a sequence from both ends, as an energy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ebmtrain.models.layers import BaseStd, SequenceLayout, add_base_energy, base_precision
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
        ragged: sequences are of different lengths (see `masks`).

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
        base_std: BaseStd | None = None,
        ragged: bool = False,
    ):
        super().__init__()
        self.steps = SequenceLayout.of(event_shape, ragged)
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
        self.base_precision = base_precision(base_std)

    def forward(self, x: Tensor) -> Tensor:
        values, there = self.steps.read(x)
        scaled = self.input_scale * values
        ends = self.ends(scaled) if there is None else self.own_ends(scaled, there.sum(1))
        h = silu(self.hidden(ends))
        return add_base_energy(self.output(h).squeeze(1), values, self.base_precision)

    def ends(self, sequence: Tensor) -> Tensor:
        """[h_forward, h_backward] of the last layer, (batch, 2 * width)."""
        _, (h, _) = self.lstm(sequence)  # (2 * depth, batch, width), last layer last
        return torch.cat([h[-2], h[-1]], 1)

    def own_ends(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        """The same of sequences of different lengths: each is read from its first step to its own
        last one, and from there back.

        So that nothing has to wait for the lengths, all steps are read and the states after the
        last one are left alone. (Packed sequences want the lengths on the CPU, and took twice as
        long there.)

        Args:
            lengths: (batch,) int64, from 1.
        """
        t, last = torch.arange(sequence.shape[1], device=sequence.device), lengths[:, None] - 1
        back = torch.where(t > last, t, last - t)  # exchanges the steps that are there; its inverse
        h = sequence
        states: list[Tensor] = []
        for layer in range(self.lstm.num_layers):
            forward = self.one_way(h, 2 * layer)
            backward = self.one_way(_at(h, back), 2 * layer + 1)
            states = [_at(forward, last), _at(backward, last)]
            h = torch.cat([forward, _at(backward, back)], 2)
        return torch.cat(states, 2).squeeze(1)

    def one_way(self, sequence: Tensor, which: int) -> Tensor:
        """States of one direction of one layer after each step, (batch, length, width)."""
        zero = sequence.new_zeros(1, len(sequence), self.lstm.hidden_size)
        weights: list[Tensor] = [*self.lstm.all_weights[which]]
        states, *_ = torch.lstm(sequence, (zero, zero), weights, True, 1, 0.0, True, False, True)
        return states


def _at(sequence: Tensor, steps: Tensor) -> Tensor:
    """Steps of each sequence: (batch, length, width), (batch, n) int64 -> (batch, n, width)."""
    return sequence.gather(1, steps[..., None].expand(-1, -1, sequence.shape[2]))
