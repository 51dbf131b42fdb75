"""Two interleaved spirals with uniform and Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.quadrature import (
    gauss_legendre,
    log_kernel_sum,
    neighbour_groups,
    plane_entropy,
)
from ebmtrain.types import Positive

_END = 3 * math.pi


@dataclass(frozen=True, kw_only=True)
class TwoSpirals:
    """x = +-(t (-cos t, sin t) / 3 + J) + N(0, std^2 I), with t = 3 pi sqrt(u), u uniform.

    J is uniform on the square (0, jitter)^2: FFJORD's code (Grathwohl et al., arXiv:1810.01367)
    adds rand / 2 to each coordinate before the division by 3, and rotates it with the spiral.

    Args:
        std: > 0, of the Gaussian noise along each axis, in units of x.
        jitter: > 0, side of the square, in units of x.
    """

    std: Positive = 0.1
    jitter: Positive = 0.5 / 3
    modes: ClassVar[None] = None

    def sample(self, count: int, generator: Generator) -> Tensor:
        like = {"dtype": torch.float64, "device": generator.device}
        t = _END * torch.rand(count, **like, generator=generator).sqrt()
        square = self.jitter * torch.rand(count, 2, **like, generator=generator)
        sign = torch.rand(count, 1, **like, generator=generator).sub(0.5).sign()
        noise = self.std * torch.randn(count, 2, **like, generator=generator)
        return sign * (_spiral(t) + square) + noise

    @cached_property
    def _nodes(self) -> tuple[Tensor, Tensor]:
        # The spacing of the nodes in x is largest at 3/4 of the curve: 3.1 END^2 / (9 nodes).
        t, weights = gauss_legendre(0, _END, 16 + math.ceil(3.1 * _END**2 / 9 / self.std))
        middle = _spiral(t) + self.jitter / 2
        # t has density 2 t / END^2, and each spiral probability 1/2.
        log_weights = (weights * t / _END**2).log()
        return torch.cat([middle, -middle]), log_weights.repeat(2)

    def log_prob(self, x: Tensor) -> Tensor:
        nodes, log_weights = (part.to(x) for part in self._nodes)
        log_p = torch.empty_like(x[:, 0])
        extent = self.jitter / math.sqrt(2)
        for rows, kept in neighbour_groups(x, nodes, std=self.std, extent=extent):
            log_p[rows] = log_kernel_sum(x[rows], nodes[kept], log_weights[kept], self._log_kernel)
        return log_p

    def _log_kernel(self, gap: Tensor) -> Tensor:
        """Log density of the sum of N(0, std^2) and a uniform variable on (-jitter/2, jitter/2).

        A difference of two error functions. Beyond 7 std from the edge, where these underflow, by
        their asymptotic series (relative error at most 3e-6).
        """
        scale = self.std * math.sqrt(2)
        width = self.jitter / scale
        edge = (gap.abs() - self.jitter / 2) / scale
        low, high = edge.clamp(max=5), edge.clamp(min=5)
        near = torch.erfc(low) - torch.erfc(low + width)
        decay = torch.exp(-width * (2 * high + width))
        far = _erfcx_series(high) - decay * _erfcx_series(high + width)
        log_mass = torch.where(edge < 5, near.log(), far.log() - high.square())
        return log_mass - math.log(2 * self.jitter)

    @cached_property
    def entropy(self) -> float:
        reach = _END / 3 + self.jitter + 8 * self.std
        return plane_entropy(self.log_prob, (-reach, -reach), (reach, reach), self.std * 0.7)


def _spiral(t: Tensor) -> Tensor:
    return torch.stack([-t * t.cos(), t * t.sin()], 1) / 3


def _erfcx_series(z: Tensor) -> Tensor:
    """exp(z^2) erfc(z) for z >= 5."""
    s = 0.5 / z.square()
    return (1 - s * (1 - 3 * s * (1 - 5 * s * (1 - 7 * s)))) / (z * math.sqrt(math.pi))
