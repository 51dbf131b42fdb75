"""Concentric rings with Gaussian noise: FFJORD's "rings", scikit-learn's "circles"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.quadrature import gauss_legendre
from ebmtrain.types import Positive


@dataclass(frozen=True, kw_only=True)
class Rings:
    """A uniform angle on one of K circles of equal probability, plus N(0, std^2 I).

    The integral over the angle is a Bessel function, i0e(z) = exp(-z) I_0(z). With r = ||x||:

    p(x) = 1/K sum_k exp(-(r - R_k)^2 / (2 std^2)) i0e(r R_k / std^2) / (2 pi std^2)

    As in FFJORD's code (Grathwohl et al., arXiv:1810.01367), the circles have equal numbers of
    points, not equal densities along them.

    Args:
        radii: R_k > 0, in units of x.
        std: > 0, of the noise along each axis, in units of x.

    Raises:
        ValueError: no radius, or one that is not positive.
    """

    radii: Sequence[float]
    std: Positive
    modes: ClassVar[None] = None

    def __post_init__(self) -> None:
        radii = list(self.radii)
        if not radii or not all(0 < radius < math.inf for radius in radii):
            raise ValueError(f"radii must be one or more positive numbers, got {radii}")

    def sample(self, count: int, generator: Generator) -> Tensor:
        like = {"dtype": torch.float64, "device": generator.device}
        radii = torch.tensor(list(self.radii), **like)
        which = torch.randint(len(radii), (count,), device=generator.device, generator=generator)
        angle = 2 * math.pi * torch.rand(count, **like, generator=generator)
        circle = radii[which, None] * torch.stack([angle.cos(), angle.sin()], 1)
        return circle + self.std * torch.randn(count, 2, **like, generator=generator)

    def log_prob(self, x: Tensor) -> Tensor:
        r = torch.linalg.vector_norm(x, dim=1)[:, None]
        radii = torch.tensor(list(self.radii)).to(x)
        bessel = torch.special.i0e(r * radii / self.std**2)
        terms = -0.5 * ((r - radii) / self.std).square() + bessel.log()
        return terms.logsumexp(1) - math.log(len(radii) * 2 * math.pi * self.std**2)

    @cached_property
    def entropy(self) -> float:
        """-integral_0^inf 2 pi r p(r) log p(r) dr, a smooth integral in one dimension."""
        end = max(self.radii) + 10 * self.std
        r, weights = gauss_legendre(0, end, 64 + math.ceil(4 * end / self.std))
        p = self.log_prob(torch.stack([r, torch.zeros_like(r)], 1)).exp()
        return float((2 * math.pi * r * torch.special.entr(p) * weights).sum())
