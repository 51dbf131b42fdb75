"""Bent arms around a centre: a Gaussian for each arm, twisted by its distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.quadrature import gauss_legendre
from ebmtrain.score import in_chunks
from ebmtrain.types import Count, Modes, Positive

_MOST_STEPS = 30


@dataclass(frozen=True, kw_only=True)
class Pinwheel:
    """x = 2 Q(a) f: f = (r, s) with r ~ N(1, radial_std^2), s ~ N(0, tangential_std^2).

    Q(a) turns by the angle -a, a = 2 pi k / arms + rate * exp(r), with k uniform (Johnson et al.,
    arXiv:1603.06277; the constants are those of FFJORD's code, arXiv:1810.01367).

    f -> x keeps the length, ||x|| = 2 ||f||, so it is undone by a search for the angle phi of f
    alone; its Jacobian is 4 (1 + rate * s * exp(r)). Where that is negative the map folds back
    onto itself. log_prob leaves out what lies behind the fold: some 6 standard deviations away, and
    less than 1e-8 of the probability, with the default constants.

    Args:
        arms: how many.
        radial_std: > 0, along an arm, before the factor 2. Keep it below 0.4, and keep
            rate * tangential_std small: the fold comes closer with each.
        tangential_std: > 0, across an arm, before the factor 2.
        rate: > 0, of the twist, in radians.
    """

    arms: Count = 5
    radial_std: Positive = 0.3
    tangential_std: Positive = 0.1
    rate: Positive = 0.25

    @property
    def modes(self) -> Modes:
        """The arms at r = 1, s = 0. By symmetry the points nearest to each have equal weight."""
        angle = self._arm_angles() + self.rate * math.e
        centres = 2 * torch.stack([angle.cos(), -angle.sin()], 1)
        return Modes(centres, torch.full_like(angle, 1 / self.arms))

    def sample(self, count: int, generator: Generator) -> Tensor:
        like = {"dtype": torch.float64, "device": generator.device}
        r = 1 + self.radial_std * torch.randn(count, **like, generator=generator)
        s = self.tangential_std * torch.randn(count, **like, generator=generator)
        arm = torch.randint(self.arms, (count,), device=generator.device, generator=generator)
        angle = self._arm_angles().to(r)[arm] + self.rate * r.exp()
        cos, sin = angle.cos(), angle.sin()
        return 2 * torch.stack([r * cos + s * sin, s * cos - r * sin], 1)

    def log_prob(self, x: Tensor) -> Tensor:
        # In parts that stay in a core's cache: three times as fast.
        return in_chunks(self._log_prob, x, 4096)

    def _log_prob(self, x: Tensor) -> Tensor:
        rho = (torch.linalg.vector_norm(x, dim=1) / 2)[:, None]
        angle = torch.atan2(x[:, 1], x[:, 0])[:, None] + self._arm_angles().to(x)
        phi = self._angle_of_f(rho, angle)
        r, s = rho * phi.cos(), rho * phi.sin()
        jacobian = 1 + self.rate * s * r.exp()
        terms = -0.5 * (((r - 1) / self.radial_std) ** 2 + (s / self.tangential_std) ** 2)
        terms = terms - jacobian.clamp(min=torch.finfo(x.dtype).eps).log()
        constant = self.arms * 4 * 2 * math.pi * self.radial_std * self.tangential_std
        return terms.logsumexp(1) - math.log(constant)

    def _angle_of_f(self, rho: Tensor, angle: Tensor) -> Tensor:
        """phi in (-pi, pi) with h(phi) = phi - rate * exp(rho cos phi) = angle + 2 pi * integer.

        h rises from the fold (or from -pi, where there is none) to pi. Of the integers, the one
        whose solution is the first after the fold: each arm comes out once.
        """
        bottom = self._fold(rho)
        lowest = self._height(bottom, rho)
        target = lowest + torch.remainder(angle - lowest, 2 * math.pi)
        low, high = bottom.expand_as(target), torch.full_like(target, math.pi)
        phi = torch.zeros_like(target)
        accuracy = 4 * torch.finfo(phi.dtype).eps * (1 + target.abs())
        for _ in range(_MOST_STEPS):
            twist = self.rate * (rho * phi.cos()).exp()
            error = phi - twist - target
            if (error.abs() < accuracy).all():
                break
            low, high = torch.where(error < 0, phi, low), torch.where(error < 0, high, phi)
            newton = phi - error / (1 + twist * rho * phi.sin())
            # Newton where it stays inside the bracket, which NaN does not; else bisection.
            inside = (newton > low) & (newton < high)
            phi = torch.where(inside, newton, (low + high) / 2)
        return phi

    def _height(self, phi: Tensor, rho: Tensor) -> Tensor:
        return phi - self.rate * (rho * phi.cos()).exp()

    def _fold(self, rho: Tensor) -> Tensor:
        """The largest phi < 0 where h' = 1 + rate * rho * sin(phi) exp(rho cos(phi)) is 0, or -pi.

        sin(phi) exp(rho cos(phi)) has its minimum where cos(phi) = rho sin(phi)^2.
        """
        cosine = 2 * rho / (1 + (1 + 4 * rho.square()).sqrt())
        steepest = -torch.acos(cosine.clamp(max=1))

        def slope(phi: Tensor) -> Tensor:
            return 1 + self.rate * rho * phi.sin() * (rho * phi.cos()).exp()

        low, high = steepest, torch.zeros_like(rho)
        for _ in range(_MOST_STEPS):
            middle = (low + high) / 2
            rising = slope(middle) > 0
            low, high = torch.where(rising, low, middle), torch.where(rising, middle, high)
        return torch.where(slope(steepest) < 0, high, -math.pi)

    def _arm_angles(self) -> Tensor:
        return 2 * math.pi * torch.arange(self.arms, dtype=torch.float64) / self.arms

    @property
    def entropy(self) -> float:
        return self._entropy

    @cached_property
    def _entropy(self) -> float:
        """-integral p log p in polar coordinates, over one arm's share of the angle."""
        end = 2 * math.hypot(1 + 8 * self.radial_std, 8 * self.tangential_std)
        radius, dr = gauss_legendre(0, end, 32 + math.ceil(6 / self.radial_std))
        turns = 32 + math.ceil(8 / (self.tangential_std * self.arms))
        angle = 2 * math.pi / self.arms * torch.arange(turns, dtype=torch.float64) / turns
        grid = radius[:, None, None] * torch.stack([angle.cos(), angle.sin()], 1)
        p = self.log_prob(grid.flatten(0, 1)).exp()
        ring = torch.special.entr(p).view(len(radius), turns).mean(1)
        return float((2 * math.pi * radius * ring * dr).sum())
