"""A transformer encoder as an energy of sequences."""

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

    Attention is explicit, because torch's fused attention has no second derivative, which score
    matching needs. Shapes: h (batch, length, width), mask (batch, length) bool or None ->
    (batch, length, width). Steps where the mask is False are not attended to.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor, mask: Tensor | None = None) -> Tensor:
        h = h + self.attention(self.before_attention(h), mask)
        return h + self.down(silu(self.up(self.before_perceptron(h))))

    def attention(self, h: Tensor, mask: Tensor | None = None) -> Tensor:
        """softmax(Q K' / sqrt(width / heads)) V, in each head."""
        batch, length, width = h.shape
        parts = self.query_key_value(h).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, width / heads)
        scores = q @ k.transpose(2, 3) / math.sqrt(width // self.heads)
        if mask is not None:  # at least one step is True, so no row is all -inf
            scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
        return self.joined((scores.softmax(3) @ v).transpose(1, 2).reshape(batch, length, width))


class Transformer(nn.Module):
    """E(x) = f(mean_t h_t) + ||x||^2 / (2 base_std^2), h the output of pre-norm blocks, f a layer
    norm and a linear map.

    Source: Vaswani et al. (NeurIPS 2017). A step is embedded as a linear map of its channels plus a
    learned vector of its position. There is no dropout: an energy is deterministic. The mean is
    over the steps that a sequence has.

    Args:
        event_shape: (length, channels), or (length,) for one channel.
        width: of each step; a multiple of `heads`.
        depth: number of blocks.
        heads: number of attention heads.
        input_scale, base_std, ragged: as for `Lstm`.

    Shapes: (batch, *event_shape) -> (batch,).

    Raises:
        ValueError: the points are not sequences, or heads do not divide the width.
    """

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        width: Count = 32,
        depth: Count = 2,
        heads: Count = 4,
        input_scale: Positive = 1.0,
        base_std: BaseStd | None = 1.5,
        ragged: bool = False,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(
                f"width={width} is no multiple of heads={heads}: change model.width or model.heads"
            )
        self.layout = SequenceLayout.of(event_shape, ragged)
        self.first = nn.Linear(self.layout.channels, width)
        self.places = nn.Parameter(torch.randn(self.layout.length, width) / math.sqrt(width))
        self.blocks = nn.ModuleList(_TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, 1)
        self.input_scale = input_scale
        self.base_precision = base_precision(base_std)

    def forward(self, x: Tensor) -> Tensor:
        values, mask = self.layout.read(x)
        h = self.first(self.input_scale * values) + self.places
        for block in self.blocks:
            h = block(h, mask)
        mean = h.mean(1) if mask is None else _masked_mean(h, mask)
        energy = self.output(self.norm(mean)).squeeze(1)
        return add_base_energy(energy, values, self.base_precision)


def _masked_mean(h: Tensor, mask: Tensor) -> Tensor:
    """Mean over the steps of the mask: (batch, length, width), (batch, length) -> (batch,
    width)."""
    return fill_zeros(h, mask).sum(1) / mask.sum(1, keepdim=True)
