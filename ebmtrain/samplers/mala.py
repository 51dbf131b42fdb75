"""Metropolis-adjusted Langevin algorithm (Roberts & Tweedie, Bernoulli 2(4), 1996)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ebmtrain.masks import squared_norm
from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.bounds import any_flag, clamp, clip_gradient
from ebmtrain.samplers.jumps import DifferentialEvolution
from ebmtrain.samplers.metropolis import MetropolisState, accept_or_reject
from ebmtrain.samplers.step_size import geometric_schedule
from ebmtrain.score import energy_and_gradient
from ebmtrain.types import Count, Energy, Positive, StepInfo


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
        step_size_end, anneal_steps, gradient_clip, clamp: as for `Langevin`.
        temperature: T > 0. The target is exp(-E / T).
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

    def init(self, energy: Energy, x: Tensor) -> MetropolisState:
        return MetropolisState.start(energy, x, self.gradient_clip)

    def step(
        self, energy: Energy, state: MetropolisState, generator: Generator
    ) -> tuple[MetropolisState, StepInfo]:
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
        proposal = MetropolisState(x, e, gradient, clipped, 0)
        new, acceptance = accept_or_reject(log_ratio, proposal, state, generator)
        info = StepInfo(acceptance, any_flag(state.clipped, clamped))
        return new._replace(index=state.index + 1), info
