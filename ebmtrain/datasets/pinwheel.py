"""Pinwheel: Gaussian arms around a centre, rotated by an angle that depends on the radius."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.quadrature import gauss_legendre
from ebmtrain.score import in_chunks
from ebmtrain.types import Modes, Positive, SmallCount

_MAX_ITERATIONS = 30


@dataclass(frozen=True, kw_only=True)
class Pinwheel:
    """x = 2 Q(a) f: f = (r, s) with r ~ N(1, radial_std^2), s ~ N(0, tangential_std^2).

    Q(a) is the rotation by -a, a = 2 pi k / arms + rate * exp(r), with k uniform (Johnson et al.,
    arXiv:1603.06277; the constants are those of FFJORD's code, arXiv:1810.01367).

    The map f -> x preserves the length up to a factor, ||x|| = 2 ||f||, so its inverse is a search
    for the angle phi of f alone. Its Jacobian is 4 (1 + rate * s * exp(r)). Where that is negative
    the map folds back onto itself. log_prob neglects the region behind the fold: with the default
    constants it is about 6 standard deviations away and has a probability below 1e-8.

    Args:
        arms: number of arms.
        radial_std: > 0, standard deviation along an arm, before the factor 2. Keep it below 0.4,
            and keep rate * tangential_std small: both bring the fold closer.
        tangential_std: > 0, standard deviation across an arm, before the factor 2.
        rate: > 0, of the rotation, in radians.
    """

    arms: SmallCount = 5
    radial_std: Positive = 0.3
    tangential_std: Positive = 0.1
    rate: Positive = 0.25

    @property
    def modes(self) -> Modes:
        """The arms at r = 1, s = 0, by symmetry with equal weights."""
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
        # In chunks that fit into a core's cache: three times as fast.
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

        h increases from the fold (or from -pi without a fold) to pi. The integer is the one whose
        solution is the first after the fold, so each arm is found once.
        """
        bottom = self._fold(rho)
        lowest = self._height(bottom, rho)
        target = lowest + torch.remainder(angle - lowest, 2 * math.pi)
        low, high = bottom.expand_as(target), torch.full_like(target, math.pi)
        phi = torch.zeros_like(target)
        accuracy = 4 * torch.finfo(phi.dtype).eps * (1 + target.abs())
        for _ in range(_MAX_ITERATIONS):
            twist = self.rate * (rho * phi.cos()).exp()
            error = phi - twist - target
            if (error.abs() < accuracy).all():
                break
            low, high = torch.where(error < 0, phi, low), torch.where(error < 0, high, phi)
            newton = phi - error / (1 + twist * rho * phi.sin())
            # Newton's step if it is inside the bracket (NaN is not), else bisection.
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
        for _ in range(_MAX_ITERATIONS):
            middle = (low + high) / 2
            rising = slope(middle) > 0
            low, high = torch.where(rising, low, middle), torch.where(rising, middle, high)
        return torch.where(slope(steepest) < 0, high, -math.pi)

    def _arm_angles(self) -> Tensor:
        return 2 * math.pi * torch.arange(self.arms, dtype=torch.float64) / self.arms

    @cached_property
    def entropy(self) -> float:
        """-integral p log p in polar coordinates, over the angle of one arm."""
        end = 2 * math.hypot(1 + 8 * self.radial_std, 8 * self.tangential_std)
        radius, dr = gauss_legendre(0, end, 32 + math.ceil(6 / self.radial_std))
        turns = 32 + math.ceil(8 / (self.tangential_std * self.arms))
        angle = 2 * math.pi / self.arms * torch.arange(turns, dtype=torch.float64) / turns
        grid = radius[:, None, None] * torch.stack([angle.cos(), angle.sin()], 1)
        p = self.log_prob(grid.flatten(0, 1)).exp()
        ring = torch.special.entr(p).view(len(radius), turns).mean(1)
        return float((2 * math.pi * radius * ring * dr).sum())
