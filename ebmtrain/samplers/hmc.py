"""Hamiltonian Monte Carlo (Duane et al., Phys. Lett. B 195, 1987; Neal, Handbook of MCMC, 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.bounds import any_flag, clamp, clip_gradient, unsqueeze_like
from ebmtrain.samplers.jumps import DifferentialEvolution
from ebmtrain.samplers.metropolis import MetropolisState, accept_or_reject
from ebmtrain.samplers.step_size import geometric_schedule
from ebmtrain.score import chain_kernels, energy_and_gradient
from ebmtrain.types import Count, Energy, OpenUnit, Positive, StepInfo


@dataclass(frozen=True, kw_only=True)
class Hmc:
    """n_leapfrog leapfrog steps of H(x, p) = E(x) / T + ||p||^2 / 2, from a new p ~ N(0, I):

        p -= eps / 2 * dE(x) / T,  x += eps * p,  p -= eps / 2 * dE(x) / T,

    accepted with probability min(1, exp(H - H')). Exact for exp(-E / T). Every trajectory of every
    chain has its own eps, uniform in step_size * (1 +- jitter): a fixed trajectory length may match
    a period of the dynamics, and the chain would then not mix.

    Args:
        step_size: eps > 0, in units of x; with `adaptation`, its initial value. The mass is 1, so
            a good eps scales with sqrt(T).
        step_size_end, anneal_steps: of eps, as for `Langevin`.
        n_leapfrog: gradient evaluations per step.
        jitter: relative range of eps, in (0, 1).
        temperature: T > 0. The target is exp(-E / T).
        gradient_clip, clamp: as for `Langevin`. With a clip the leapfrog stays reversible and
            volume-preserving, and the chain exact; with a clamp it does not.
        adaptation: rule that adapts eps to the acceptance rate; null: eps is constant.
        jumps: additional moves between modes; null: none.
    """

    ragged: ClassVar[bool] = True

    step_size: Positive
    step_size_end: Positive | None = None
    anneal_steps: Count = 100
    n_leapfrog: Count = 5
    jitter: OpenUnit = 0.2
    temperature: Positive = 1.0
    gradient_clip: Positive | None = None
    clamp: Positive | None = None
    adaptation: StepSizeAdaptation | None = None
    jumps: DifferentialEvolution | None = None

    def init(self, energy: Energy, x: Tensor) -> MetropolisState:
        return MetropolisState.start(energy, x, self.gradient_clip)

    def step(
        self, energy: Energy, state: MetropolisState, generator: Generator
    ) -> tuple[MetropolisState, StepInfo]:
        eps = geometric_schedule(self.step_size, self.step_size_end, self.anneal_steps, state.index)
        uniform = torch.empty_like(state.energy).uniform_(generator=generator) * 2 - 1
        eps = eps * (1 + self.jitter * uniform)
        momentum = torch.empty_like(state.x).normal_(generator=generator)

        unbounded = self.gradient_clip is None and self.clamp is None
        if unbounded and (closed_form := chain_kernels(energy, state.x)):
            x, p, gradient, e = closed_form.leapfrog(
                state.x, momentum, state.gradient, eps, self.temperature, self.n_leapfrog
            )
            any_clipped = end_clipped = None
        else:
            x, p, gradient, e, any_clipped, end_clipped = self._leapfrog(
                energy, state, momentum, eps
            )

        # Padding of a sequence has no gradient: its momentum is constant and cancels.
        kinetic_before, kinetic_after = (m.flatten(1).square().sum(1) / 2 for m in (momentum, p))
        log_ratio = (state.energy - e) / self.temperature + kinetic_before - kinetic_after
        proposal = MetropolisState(x, e, gradient, end_clipped, 0)
        new, acceptance = accept_or_reject(log_ratio, proposal, state, generator)
        return new._replace(index=state.index + 1), StepInfo(acceptance, any_clipped)

    def _leapfrog(
        self, energy: Energy, state: MetropolisState, p: Tensor, eps: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        """Points, momenta, gradients and energies at the end of a trajectory; flags of a clip or
        clamp anywhere on it; flags of a clip at its end."""
        x, e, gradient, end_clipped = state[:4]
        eps = unsqueeze_like(eps, x)
        any_clipped = end_clipped
        for _ in range(self.n_leapfrog):
            p = p - eps / (2 * self.temperature) * gradient
            x, clamped = clamp(x + eps * p, self.clamp)
            e, gradient = energy_and_gradient(energy, x)
            gradient, end_clipped = clip_gradient(gradient, self.gradient_clip)
            any_clipped = any_flag(any_clipped, clamped, end_clipped)
            p = p - eps / (2 * self.temperature) * gradient
        return x, p, gradient, e, any_clipped, end_clipped
