"""Hamiltonian Monte Carlo (Duane et al., Phys. Lett. B 195, 1987; Neal, 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.bounds import any_flag, clamp, clip_gradient, has_bounds, unsqueeze_like
from ebmtrain.samplers.jumps import DifferentialEvolution
from ebmtrain.samplers.metropolis import (
    accept_mask,
    acceptance_probability,
    choose,
    choose_optional,
    sanitize_start,
)
from ebmtrain.samplers.step_size import geometric_schedule
from ebmtrain.score import at_once, energy_and_gradient
from ebmtrain.types import Count, Energy, OpenUnit, Positive, StepInfo


class HmcState(NamedTuple):
    x: Tensor
    energy: Tensor
    force: Tensor
    """dE(x), clipped where a clip is set."""
    clipped: Tensor | None
    """1 where that force was clipped."""
    index: int


@dataclass(frozen=True, kw_only=True)
class Hmc:
    """n_leapfrog steps of the dynamics of H(x, p) = E(x) / T + ||p||^2 / 2, from p ~ N(0, I) anew,

        p -= eps / 2 * dE(x) / T,  x += eps * p,  p -= eps / 2 * dE(x) / T,

    accepted with probability min(1, exp(H - H')): exact for exp(-E / T). Each trajectory of each
    chain has its own eps, uniform within step_size * (1 -+ jitter), so that no period of the
    dynamics is hit for ever.

    Args:
        step_size: eps > 0, in units of x; with `adaptation`, where it starts. The mass is 1, so a
            good eps scales with sqrt(T).
        step_size_end: where given, eps goes geometrically to it in `anneal_steps` steps and stays
            there. In training each run of method.k steps begins anew at step_size, persistent
            chains too; where points are drawn, the burn-in is part of the chain.
        anneal_steps: steps from the first size to the last, both included.
        n_leapfrog: gradient evaluations per step.
        jitter: in (0, 1).
        temperature: T > 0. The target is exp(-E / T).
        gradient_clip: largest Euclidean norm of the force per chain, in energy per unit of x. The
            leapfrog stays reversible and volume-preserving, so the chain stays exact.
        clamp: bound on every |x_i|, in units of x; breaks exactness.
        adaptation: how eps follows the acceptance; null: eps stays.
        jumps: moves between modes that a run of chains makes beside these steps; null: none.
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

    def init(self, energy: Energy, x: Tensor) -> HmcState:
        e, gradient = sanitize_start(*energy_and_gradient(energy, x))
        return HmcState(x, e, *clip_gradient(gradient, self.gradient_clip), 0)

    def step(
        self, energy: Energy, state: HmcState, generator: Generator
    ) -> tuple[HmcState, StepInfo]:
        eps = geometric_schedule(self.step_size, self.step_size_end, self.anneal_steps, state.index)
        spread = torch.empty_like(state.energy).uniform_(generator=generator) * 2 - 1
        eps = eps * (1 + self.jitter * spread)
        momentum = torch.empty_like(state.x).normal_(generator=generator)

        if not has_bounds(self) and (closed_form := at_once(energy, state.x)):
            x, p, force, e = closed_form.leapfrog(
                state.x, momentum, state.force, eps, self.temperature, self.n_leapfrog
            )
            clipped = cut = None
        else:
            x, p, force, e, clipped, cut = self.leapfrog(energy, state, momentum, eps)

        # A step that is not there has no force: its momentum stays and drops out.
        kinetic_before, kinetic_after = (m.flatten(1).square().sum(1) / 2 for m in (momentum, p))
        log_ratio = (state.energy - e) / self.temperature + kinetic_before - kinetic_after
        accept = accept_mask(log_ratio, generator)
        new = HmcState(
            choose(accept, x, state.x),
            choose(accept, e, state.energy),
            choose(accept, force, state.force),
            choose_optional(accept, cut, state.clipped),
            state.index + 1,
        )
        return new, StepInfo(acceptance_probability(log_ratio), clipped)

    def leapfrog(
        self, energy: Energy, state: HmcState, p: Tensor, eps: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        """Points, momenta, force and energy at the end of a trajectory; where it was clipped or
        clamped anywhere, and where the last force was."""
        x, e, force, cut = state[:4]
        eps = unsqueeze_like(eps, x)
        clipped = cut
        for _ in range(self.n_leapfrog):
            p = p - eps / (2 * self.temperature) * force
            x, clamped = clamp(x + eps * p, self.clamp)
            e, gradient = energy_and_gradient(energy, x)
            force, cut = clip_gradient(gradient, self.gradient_clip)
            clipped = any_flag(clipped, clamped, cut)
            p = p - eps / (2 * self.temperature) * force
        return x, p, force, e, clipped, cut
