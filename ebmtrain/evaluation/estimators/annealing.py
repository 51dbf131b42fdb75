"""Annealing from a Gaussian to an energy: the path, its schedule and the weights of annealed
chains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.resampling import effective_sample_size, log_mean_exp
from ebmtrain.score import energy_and_gradient
from ebmtrain.types import BaseDistribution, Energy, Sampler

_MAX_ENERGY_NATS = 1e30  # in place of an energy that is not finite: no chain accepts such a point
_ADAPTATION_STEPS = 5  # of each pilot chain at each beta
_MAX_PILOT_BETAS = 1_000


@dataclass(frozen=True)
class GeometricPath:
    """Geometric path from N(0, I) to the target, over whitened coordinates z:

        U(z) = (1 - beta) * (||z||^2 / 2 + d / 2 * log 2 pi) + beta * E(u(z)) / T.

    At beta = 0 exp(-U) is the normalised base with log Z = 0, at beta = 1 the target.

    Args:
        beta: inverse temperature of the path, in [0, 1].
        base: defines the whitened coordinates z.
        energy: of standardized points.
        temperature: T > 0.
        shape: of one point, (*event).
    """

    beta: float
    base: BaseDistribution
    energy: Energy
    temperature: float
    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """U, (n, d) -> (n,)."""
        return self._interpolate(x, self.target(x))

    def energy_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """U, (n,), and dU/dz, (n, d)."""
        e, gradient = energy_and_gradient(self.energy, self._points(z))
        slope = gradient.flatten(1) @ self.base.factor / self.temperature
        return self._interpolate(z, self._reduced(e)), (1 - self.beta) * z + self.beta * slope

    def log_ratio(self, z: Tensor) -> Tensor:
        """log of the unnormalised target over the base, -dU/dbeta, (n,)."""
        return _base_energy(z) - self.target(z)

    @torch.no_grad()
    def target(self, z: Tensor) -> Tensor:
        """E(u(z)) / T, (n,); 1e30 where it is not finite."""
        return self._reduced(self.energy(self._points(z)))

    def _points(self, z: Tensor) -> Tensor:
        """Standardized points u(z), (n, *event)."""
        return self.base.unwhiten(z).view(-1, *self.shape)

    def _reduced(self, e: Tensor) -> Tensor:
        return (e / self.temperature).nan_to_num(_MAX_ENERGY_NATS, posinf=_MAX_ENERGY_NATS)

    def _interpolate(self, z: Tensor, target: Tensor) -> Tensor:
        """U from the energy of the target, (n,)."""
        return (1 - self.beta) * _base_energy(z) + self.beta * target


def _base_energy(z: Tensor) -> Tensor:
    """-log N(z; 0, I), (n, d) -> (n,)."""
    return z.square().sum(1) / 2 + z.shape[1] / 2 * math.log(2 * math.pi)


class AnnealingSchedule(NamedTuple):
    """Inverse temperatures of the path and the step size of the kernel at each of them."""

    betas: list[float]
    """In [0, 1], monotonic."""
    step_sizes: list[float]
    """Step size of the kernel at each beta."""


_Path = Callable[[float], GeometricPath]


def anneal(
    path: _Path,
    z: Tensor,
    schedule: AnnealingSchedule,
    kernel: Sampler,
    n_steps: int,
    generator: Generator,
) -> Tensor:
    """Log importance weights of annealed chains, log w = sum_k U_{k-1}(z_{k-1}) - U_k(z_{k-1}),
    (n,).

    Between two terms a chain makes `n_steps` steps of a kernel that leaves exp(-U_k) invariant. For
    z from exp(-U_first) the expectation of w is Z_last / Z_first, for any schedule fixed in advance
    (Neal, Statistics and Computing 11, 2001). With a reversed schedule, from samples of the model,
    these are the weights of the reverse chains (Burda, Grosse & Salakhutdinov, AISTATS 2015).

    Args:
        path: beta -> U.
        z: samples from the first distribution, (n, d).
        n_steps: kernel steps at each beta.
    """
    log_w = z.new_zeros(len(z))
    steps = zip(pairwise(schedule.betas), schedule.step_sizes[1:], strict=True)
    for (before, beta), size in steps:
        here = path(beta)
        log_w = log_w + (beta - before) * here.log_ratio(z)
        fixed = replace(kernel, step_size=size, adaptation=None)  # type: ignore[type-var]
        z = run_chain(fixed, here, z, n_steps, generator).x
    return log_w


def reversed_schedule(schedule: AnnealingSchedule) -> AnnealingSchedule:
    """The schedule in reverse order, from the target to the base."""
    return AnnealingSchedule(schedule.betas[::-1], schedule.step_sizes[::-1])


@torch.no_grad()
def adaptive_schedule(
    path: _Path, z: Tensor, kernel: Sampler, ess: float, generator: Generator
) -> AnnealingSchedule:
    """A schedule from beta = 0 to 1 in which each step keeps the same fraction of the conditional
    effective sample size (Zhou, Johansen & Aston, J. Comput. Graph. Stat. 25, 2016).

    Pilot chains move from the base to the target. At each beta the step size of the kernel adapts
    to its acceptance rate; the chains are resampled if their effective sample size falls below n /
    2.

    Args:
        path: beta -> U.
        z: samples from the base, (n, d).
        kernel: with adaptation.
        ess: fraction of the conditional effective sample size to keep, in (0, 1).
    """
    betas, sizes = [0.0], []
    adapted: dict[str, Tensor] | None = None
    log_w = z.new_zeros(len(z))
    while True:
        for _ in range(_ADAPTATION_STEPS):
            z, adapted, *_ = run_chain(kernel, path(betas[-1]), z, 1, generator, adapted)
        sizes.append(float(adapted.get("step_size", kernel.step_size)))  # type: ignore
        if betas[-1] >= 1:
            return AnnealingSchedule(betas, sizes)
        log_ratio = path(betas[-1]).log_ratio(z)
        rest = 1 - betas[-1]
        step = _next_beta_step(log_w, log_ratio, rest, ess)
        if len(betas) == _MAX_PILOT_BETAS:
            step = rest
        betas.append(1.0 if step == rest else betas[-1] + step)
        log_w = log_w + step * log_ratio
        if effective_sample_size(log_w) < len(z) / 2:
            weights = log_w.softmax(0)
            rows = torch.multinomial(weights, len(z), replacement=True, generator=generator)
            z, log_w = z[rows], torch.zeros_like(log_w)


def _next_beta_step(log_w: Tensor, log_ratio: Tensor, limit: float, ess: float) -> float:
    """The largest step of beta, at most `limit`, with conditional effective sample size >= ess * n:

        CESS / n = (sum_i W_i v_i)^2 / sum_i W_i v_i^2,  v_i = exp(step * log_ratio_i),

    which decreases with the step. W are the normalised weights.

    Args:
        log_w: log weights of the chains, (n,).
        log_ratio: -dU/dbeta of the chains, (n,).
        limit: > 0.
        ess: in (0, 1).

    Returns:
        > 0, by bisection.
    """

    def relative_cess(step: float) -> float:
        log_v, log_weights = step * log_ratio, log_w.log_softmax(0)
        first, second = (log_weights + log_v).logsumexp(0), (log_weights + 2 * log_v).logsumexp(0)
        return float((2 * first - second).exp())

    if relative_cess(limit) >= ess:
        return limit
    low, high = 0.0, limit
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if relative_cess(middle) >= ess else (low, middle)
    return high  # > 0 for all weights


def refine_schedule(schedule: AnnealingSchedule, n_steps: int) -> AnnealingSchedule:
    """The schedule interpolated to `n_steps` steps: beta linearly, the step size geometrically."""
    old = len(schedule.betas) - 1
    betas, sizes = [], []
    for k in range(n_steps + 1):
        place = k * old / n_steps
        i = min(int(place), old - 1)
        part = place - i
        betas.append((1 - part) * schedule.betas[i] + part * schedule.betas[i + 1])
        sizes.append(schedule.step_sizes[i] ** (1 - part) * schedule.step_sizes[i + 1] ** part)
    return AnnealingSchedule(betas, sizes)


def bennett_log_z(forward: Tensor, reverse: Tensor) -> Tensor:
    """Bennett acceptance ratio estimate of log Z of the target from both directions (Bennett, J.
    Comput. Phys. 22, 1976; for annealed chains Crooks, Phys. Rev. E 61, 2000), the estimate of
    least variance: the L that solves

        sum_i 1 / (1 + n/m exp(L - f_i)) = sum_j 1 / (1 + m/n exp(-L - r_j)).

    Args:
        forward: f = log w from the base, (..., n).
        reverse: r = log w from the target, (..., m), of mean about -log Z.

    Returns:
        (...).
    """
    ratio = math.log(forward.shape[-1] / reverse.shape[-1])
    ends = torch.stack([log_mean_exp(forward), -log_mean_exp(reverse)])
    low, high = ends.amin(0) - 50, ends.amax(0) + 50
    for _ in range(80):
        middle = (low + high) / 2
        left = torch.sigmoid(forward - (middle + ratio)[..., None]).sum(-1)
        right = torch.sigmoid(reverse + (middle + ratio)[..., None]).sum(-1)
        low = torch.where(left > right, middle, low)
        high = torch.where(left > right, high, middle)
    return (low + high) / 2
