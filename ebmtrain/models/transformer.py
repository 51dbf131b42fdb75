"""A transformer that encodes a sequence, as an energy."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ebmtrain.models.base_measure import Width, precision_of, with_base
from ebmtrain.models.sequences import Steps
from ebmtrain.types import Count, Positive


class Block(nn.Module):
    """h + attention(norm(h)), then h + perceptron(norm(h)): pre-norm (Xiong et al., ICML 2020).

    Attention is written out: the fused one of torch has no second derivative, which score matching
    needs. Shapes: (batch, length, width) -> the same.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.attention(self.before_attention(h))
        return h + self.down(silu(self.up(self.before_perceptron(h))))

    def attention(self, h: Tensor) -> Tensor:
        """softmax(Q K' / sqrt(width / heads)) V, in each head."""
        batch, length, width = h.shape
        parts = self.query_key_value(h).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, width / heads)
        weights = (q @ k.transpose(2, 3) / math.sqrt(width // self.heads)).softmax(3)
        return self.joined((weights @ v).transpose(1, 2).reshape(batch, length, width))


class Transformer(nn.Module):
    """E(x) = f(mean_t h_t) + ||x||^2 / (2 base_std^2), h what pre-norm blocks make of the steps, f
    linear after a norm.

    Source: Vaswani et al. (NeurIPS 2017). A step is its channels, mapped to `width`, plus a vector
    learnt for its place. No dropout: an energy draws no random numbers.

    Args:
        event_shape: (length, channels), or (length,) for one channel.
        width: of each step; a multiple of `heads`.
        depth: blocks.
        heads: of the attention.
        input_scale: factor on the (standardized) input.
        base_std: standard deviation of the base measure in units of x, at least 1e-6; null: none.

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
        base_std: Width | None = None,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(
                f"width={width} is no multiple of heads={heads}: change model.width or model.heads"
            )
        self.steps = Steps.of(event_shape)
        self.first = nn.Linear(self.steps.channels, width)
        self.places = nn.Parameter(torch.randn(self.steps.length, width) / math.sqrt(width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, 1)
        self.input_scale = input_scale
        self.base_precision = precision_of(base_std)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.input_scale * self.steps.read(x)) + self.places
        for block in self.blocks:
            h = block(h)
        energy = self.output(self.norm(h.mean(1))).squeeze(1)
        return with_base(energy, x.flatten(1), self.base_precision)
