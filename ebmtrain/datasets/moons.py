"""Two moons: interleaving half circles with Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.quadrature import (
    gauss_legendre,
    log_gaussian_sum,
    node_count,
    plane_entropy,
)
from ebmtrain.types import Positive


@dataclass(frozen=True, kw_only=True)
class Moons:
    """scikit-learn's make_moons, scaled by 2 and centred as in FFJORD.

    With t uniform on (0, pi) and equal probabilities of the moons:

    upper: 2 (cos t, sin t) - (1, 0.2)        lower: 2 (1 - cos t, 1/2 - sin t) - (1, 0.2)

    plus N(0, std^2 I). (make_moons uses evenly spaced t: the same distribution, but its points are
    not independent.)

    Args:
        std: > 0, of the noise along each axis, in units of x (twice the `noise` of make_moons).
    """

    std: Positive = 0.2
    modes: ClassVar[None] = None

    def sample(self, count: int, generator: Generator) -> Tensor:
        like = {"dtype": torch.float64, "device": generator.device}
        t = math.pi * torch.rand(count, **like, generator=generator)
        upper = torch.rand(count, **like, generator=generator) < 0.5
        curve = torch.where(upper[:, None], _upper(t), _lower(t))
        return curve + self.std * torch.randn(count, 2, **like, generator=generator)

    @cached_property
    def _nodes(self) -> tuple[Tensor, Tensor]:
        t, weights = gauss_legendre(0, math.pi, node_count(2 * math.pi, self.std))
        return torch.cat([_upper(t), _lower(t)]), (weights / (2 * math.pi)).repeat(2)

    def log_prob(self, x: Tensor) -> Tensor:
        return log_gaussian_sum(x, *self._nodes, self.std)

    @cached_property
    def entropy(self) -> float:
        margin = 8 * self.std
        low, high = (-3 - margin, -1.2 - margin), (3 + margin, 1.8 + margin)
        return plane_entropy(self.log_prob, low, high, self.std / 2)


def _upper(t: Tensor) -> Tensor:
    return torch.stack([2 * t.cos() - 1, 2 * t.sin() - 0.2], 1)


def _lower(t: Tensor) -> Tensor:
    return torch.stack([1 - 2 * t.cos(), 0.8 - 2 * t.sin()], 1)
