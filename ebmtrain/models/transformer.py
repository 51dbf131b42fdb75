"""A transformer that encodes a sequence, as an energy."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ebmtrain.masks import fill_zeros
from ebmtrain.models.layers import BaseStd, SequenceLayout, add_base_energy, base_precision
from ebmtrain.types import Count, Positive


class _TransformerBlock(nn.Module):
    """h + attention(norm(h)), then h + perceptron(norm(h)): pre-norm (Xiong et al., ICML 2020).

    Attention is written out: the fused one of torch has no second derivative, which score matching
    needs. Shapes: (batch, length, width), and (batch, length) of bool or None, the steps that are
    there -> the same as the first. Steps that are not there are not attended to.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor, there: Tensor | None = None) -> Tensor:
        h = h + self.attention(self.before_attention(h), there)
        return h + self.down(silu(self.up(self.before_perceptron(h))))

    def attention(self, h: Tensor, there: Tensor | None = None) -> Tensor:
        """softmax(Q K' / sqrt(width / heads)) V, in each head."""
        batch, length, width = h.shape
        parts = self.query_key_value(h).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, width / heads)
        scores = q @ k.transpose(2, 3) / math.sqrt(width // self.heads)
        if there is not None:  # one step always is, so that no row is -inf alone
            scores = scores.masked_fill(~there[:, None, None], -torch.inf)
        return self.joined((scores.softmax(3) @ v).transpose(1, 2).reshape(batch, length, width))


class Transformer(nn.Module):
    """E(x) = f(mean_t h_t) + ||x||^2 / (2 base_std^2), h what pre-norm blocks make of the steps, f
    linear after a norm.

    Source: Vaswani et al. (NeurIPS 2017). A step is its channels, mapped to `width`, plus a vector
    learnt for its place. No dropout: an energy draws no random numbers. The mean is over the steps
    that a sequence has.

    Args:
        event_shape: (length, channels), or (length,) for one channel.
        width: of each step; a multiple of `heads`.
        depth: blocks.
        heads: of the attention.
        input_scale: factor on the (standardized) input.
        base_std: standard deviation of the base measure in units of x, at least 1e-6; null: none.
        ragged: sequences are of different lengths (see `masks`).

    Shapes: (batch, *event_shape) -> (batch,).

    Raises:
        ValueError: points are no sequences, or heads do not divide the width.
    """

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        width: Count = 32,
        depth: Count = 2,
        heads: Count = 4,
        input_scale: Positive = 1.0,
        base_std: BaseStd | None = None,
        ragged: bool = False,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(
                f"width={width} is no multiple of heads={heads}: change model.width or model.heads"
            )
        self.steps = SequenceLayout.of(event_shape, ragged)
        self.first = nn.Linear(self.steps.channels, width)
        self.places = nn.Parameter(torch.randn(self.steps.length, width) / math.sqrt(width))
        self.blocks = nn.ModuleList(_TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, 1)
        self.input_scale = input_scale
        self.base_precision = base_precision(base_std)

    def forward(self, x: Tensor) -> Tensor:
        values, there = self.steps.read(x)
        h = self.first(self.input_scale * values) + self.places
        for block in self.blocks:
            h = block(h, there)
        mean = h.mean(1) if there is None else _masked_mean(h, there)
        energy = self.output(self.norm(mean)).squeeze(1)
        return add_base_energy(energy, values, self.base_precision)


def _masked_mean(h: Tensor, there: Tensor) -> Tensor:
    """Over the steps that are there: (batch, length, width), (batch, length) -> (batch, width)."""
    return fill_zeros(h, there).sum(1) / there.sum(1, keepdim=True)
