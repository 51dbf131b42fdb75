"""Annealing between a Gaussian and an energy: the path, its ladder, the weights of chains on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.resampling import effective_sample_size, log_mean_exp
from ebmtrain.score import energy_and_gradient
from ebmtrain.types import BaseDistribution, Energy, Sampler

_MAX_ENERGY_NATS = 1e30  # nats; stands for an energy that is not finite, which no chain enters
_ADAPTATION_STEPS = 5  # of each chain at each temperature of the pilot
_MAX_PILOT_BETAS = 1_000


@dataclass(frozen=True, kw_only=True)
class GeometricPath:
    """U(z) = (1 - beta) * (||z||^2 / 2 + d / 2 * log 2 pi) + beta * E(u(z)) / T.

    At beta = 0 it is the base, with log Z = 0; at beta = 1 the target over z.

    Args:
        beta: in [0, 1].
        base: whose white coordinates z are.
        energy: of standardized points.
        temperature: T > 0.
        shape: of one point.
    """

    beta: float
    base: BaseDistribution
    energy: Energy
    temperature: float
    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return self.interpolate(x, self.target(x))

    def energy_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        e, gradient = energy_and_gradient(self.energy, self.points(z))
        slope = gradient.flatten(1) @ self.base.factor / self.temperature
        target = (e / self.temperature).nan_to_num(_MAX_ENERGY_NATS, posinf=_MAX_ENERGY_NATS)
        return self.interpolate(z, target), (1 - self.beta) * z + self.beta * slope

    def log_ratio(self, z: Tensor) -> Tensor:
        """-dU/dbeta, (n,): how far U falls from the base to the target."""
        return _base_energy(z) - self.target(z)

    @torch.no_grad()
    def target(self, z: Tensor) -> Tensor:
        e = self.energy(self.points(z)) / self.temperature
        return e.nan_to_num(_MAX_ENERGY_NATS, posinf=_MAX_ENERGY_NATS)

    def points(self, z: Tensor) -> Tensor:
        return self.base.unwhiten(z).view(-1, *self.shape)

    def interpolate(self, z: Tensor, target: Tensor) -> Tensor:
        return (1 - self.beta) * _base_energy(z) + self.beta * target


def _base_energy(z: Tensor) -> Tensor:
    """-log N(z; 0, I), (n, d) -> (n,)."""
    return z.square().sum(1) / 2 + z.shape[1] / 2 * math.log(2 * math.pi)


class AnnealingSchedule(NamedTuple):
    """Temperatures and what was learnt at each of them."""

    betas: list[float]
    """From 0 to 1."""
    step_sizes: list[float]
    """Of the kernel at each beta."""


_Path = Callable[[float], GeometricPath]


def anneal(
    path: _Path,
    z: Tensor,
    ladder: AnnealingSchedule,
    kernel: Sampler,
    n_steps: int,
    generator: Generator,
) -> Tensor:
    """log w = sum_k U_{k-1}(z_{k-1}) - U_k(z_{k-1}), one per chain, shape (n,).

    Between two terms a chain makes `n_steps` steps of a kernel that leaves exp(-U_k) as it is.
    For z from exp(-U_first) the mean of w is Z_last / Z_first, without bias, for any ladder that
    was fixed before (Neal, Statistics and Computing 11, 2001). On a ladder turned round, from
    points of the model, it is the reverse chain (Burda, Grosse & Salakhutdinov, AISTATS 2015).
    """
    log_w = z.new_zeros(len(z))
    for before, beta, size in zip(ladder.betas, ladder.betas[1:], ladder.step_sizes[1:],
                                  strict=False):  # fmt: skip
        here = path(beta)
        log_w = log_w + (beta - before) * here.log_ratio(z)
        fixed = replace(kernel, step_size=size, adaptation=None)  # type: ignore[type-var]
        z = run_chain(fixed, here, z, n_steps, generator).x
    return log_w


def reversed_schedule(ladder: AnnealingSchedule) -> AnnealingSchedule:
    return AnnealingSchedule(ladder.betas[::-1], ladder.step_sizes[::-1])


@torch.no_grad()
def adaptive_schedule(
    path: _Path, z: Tensor, kernel: Sampler, ess: float, generator: Generator
) -> AnnealingSchedule:
    """A ladder whose steps all keep the share `ess` of the conditional effective sample size.

    A population of chains moves from the base to the target; the next beta is where the weights
    that it would bring keep just that share (Zhou, Johansen & Aston, J. Comput. Graph. Stat. 25,
    2016). At each beta the kernel's step size follows its acceptance.

    Args:
        path: beta -> U.
        z: from the base, (n, d).
        ess: in (0, 1).
    """
    betas, sizes = [0.0], []
    learnt: dict[str, Tensor] | None = None
    log_w = z.new_zeros(len(z))
    while True:
        for _ in range(_ADAPTATION_STEPS):
            z, learnt, *_ = run_chain(kernel, path(betas[-1]), z, 1, generator, learnt)
        sizes.append(float(learnt.get("step_size", kernel.step_size)))  # type: ignore
        if betas[-1] >= 1:
            return AnnealingSchedule(betas, sizes)
        fall = path(betas[-1]).log_ratio(z)
        step = next_beta_step(log_w, fall, 1 - betas[-1], ess)
        if len(betas) == _MAX_PILOT_BETAS:
            step = 1 - betas[-1]
        betas.append(1.0 if step == 1 - betas[-1] else betas[-1] + step)
        log_w = log_w + step * fall
        if effective_sample_size(log_w) < len(z) / 2:
            rows = torch.multinomial(log_w.softmax(0), len(z), replacement=True,
                                     generator=generator)  # fmt: skip
            z, log_w = z[rows], torch.zeros_like(log_w)


def next_beta_step(log_w: Tensor, fall: Tensor, most: float, ess: float) -> float:
    """The largest step of beta, up to `most`, that keeps this conditional effective sample size.

    CESS / n = (sum_i W_i v_i)^2 / sum_i W_i v_i^2 with v = exp(step * fall) falls with the step.
    """

    def kept(step: float) -> float:
        log_v, log_weights = step * fall, log_w.log_softmax(0)
        first, second = (log_weights + log_v).logsumexp(0), (log_weights + 2 * log_v).logsumexp(0)
        return float((2 * first - second).exp())

    if kept(most) >= ess:
        return most
    low, high = 0.0, most
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) >= ess else (low, middle)
    return high  # > 0, whatever the weights are


def refine_schedule(ladder: AnnealingSchedule, n_steps: int) -> AnnealingSchedule:
    """The same ladder with `n_steps` steps, each an equal part of the old ones."""
    old = len(ladder.betas) - 1
    betas, sizes = [], []
    for k in range(n_steps + 1):
        place = k * old / n_steps
        i = min(int(place), old - 1)
        part = place - i
        betas.append((1 - part) * ladder.betas[i] + part * ladder.betas[i + 1])
        sizes.append(ladder.step_sizes[i] ** (1 - part) * ladder.step_sizes[i + 1] ** part)
    return AnnealingSchedule(betas, sizes)


def bennett_log_z(forward: Tensor, reverse: Tensor) -> Tensor:
    """log Z of the target from both directions (Bennett, J. Comput. Phys. 22, 1976; for annealed
    chains Crooks, Phys. Rev. E 61, 2000), the estimate of least variance: the L that solves

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
