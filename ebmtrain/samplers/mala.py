"""Metropolis-adjusted Langevin algorithm (Roberts & Tweedie, Bernoulli 2(4), 1996)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.masks import squared_norm
from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.bounds import any_flag, clamp, clip_gradient
from ebmtrain.samplers.jumps import DifferentialEvolution
from ebmtrain.samplers.metropolis import (
    accept_mask,
    acceptance_probability,
    choose,
    choose_optional,
    sanitize_start,
)
from ebmtrain.samplers.step_size import geometric_schedule
from ebmtrain.score import energy_and_gradient
from ebmtrain.types import Count, Energy, Positive, StepInfo


class MalaState(NamedTuple):
    x: Tensor
    energy: Tensor
    gradient: Tensor
    """dE(x), clipped if `gradient_clip` is set."""
    clipped: Tensor | None
    """1 where the gradient was clipped, else 0."""
    index: int
    """Steps so far."""


@dataclass(frozen=True, kw_only=True)
class Mala:
    """x' = x - eta * dE(x) + sqrt(2 * eta * T) * xi, accepted with probability

        min(1, exp(-(E(x') - E(x)) / T) * q(x | x') / q(x' | x)),
        q(b | a) = N(b; a - eta * dE(a), 2 * eta * T).

    Exact for exp(-E / T) at any eta. A gradient clip changes only the proposal and keeps the chain
    exact; a clamp does not.

    Args:
        step_size: eta > 0, in squared units of x per unit of energy; with `adaptation`, its
            initial value.
        step_size_end: if given, eta changes geometrically from step_size to this value in
            `anneal_steps` steps and then stays constant. In training every run of method.k steps
            starts at step_size again, also for persistent chains. In sampling the burn-in counts.
        anneal_steps: steps from the first step size to the last, both included.
        temperature: T > 0. The target is exp(-E / T).
        gradient_clip: maximum Euclidean norm of dE per chain, in energy per unit of x; null: none.
        clamp: bound on every |x_i|, in units of x; null: none.
        adaptation: rule that adapts eta to the acceptance rate; null: eta is constant.
        jumps: additional moves between modes; null: none.
    """

    ragged: ClassVar[bool] = True

    step_size: Positive
    step_size_end: Positive | None = None
    anneal_steps: Count = 100
    temperature: Positive = 1.0
    gradient_clip: Positive | None = None
    clamp: Positive | None = None
    adaptation: StepSizeAdaptation | None = None
    jumps: DifferentialEvolution | None = None

    def init(self, energy: Energy, x: Tensor) -> MalaState:
        e, gradient = sanitize_start(*energy_and_gradient(energy, x))
        return MalaState(x, e, *clip_gradient(gradient, self.gradient_clip), 0)

    def step(
        self, energy: Energy, state: MalaState, generator: Generator
    ) -> tuple[MalaState, StepInfo]:
        eta = geometric_schedule(self.step_size, self.step_size_end, self.anneal_steps, state.index)
        noise = torch.empty_like(state.x).normal_(generator=generator)
        x = state.x - eta * state.gradient + (2 * eta * self.temperature) ** 0.5 * noise
        x, clamped = clamp(x, self.clamp)
        e, gradient = energy_and_gradient(energy, x)
        gradient, clipped = clip_gradient(gradient, self.gradient_clip)

        # -log q(x' | x) and -log q(x | x'), without the common constant.
        forward = squared_norm(noise, state.x) / 2
        reverse = state.x - x + eta * gradient
        backward = squared_norm(reverse, state.x) / (4 * eta * self.temperature)
        log_ratio = (state.energy - e) / self.temperature + forward - backward
        accept = accept_mask(log_ratio, generator)
        new = MalaState(
            choose(accept, x, state.x),
            choose(accept, e, state.energy),
            choose(accept, gradient, state.gradient),
            choose_optional(accept, clipped, state.clipped),
            state.index + 1,
        )
        return new, StepInfo(acceptance_probability(log_ratio), any_flag(state.clipped, clamped))
