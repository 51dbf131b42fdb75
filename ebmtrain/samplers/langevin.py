"""Unadjusted Langevin algorithm (Parisi, Nucl. Phys. B 180, 1981; Roberts & Tweedie, 1996)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.bounds import any_flag, clamp, clip_gradient
from ebmtrain.samplers.step_size import geometric_schedule
from ebmtrain.score import chain_kernels, energy_and_gradient
from ebmtrain.types import Count, Energy, NonNegative, Positive, StepInfo

_MAX_NOISE_ELEMENTS = 2**22  # normal numbers per draw
_MAX_STEPS_PER_CALL = 1000  # of the energy's own kernel: signals are handled between two calls


class LangevinState(NamedTuple):
    x: Tensor
    index: int


@dataclass(frozen=True, kw_only=True)
class Langevin:
    """x' = x - eta * dE(x) + sqrt(2 * eta * T) * xi, with xi ~ N(0, I).

    There is no rejection, so the chain is biased at any eta > 0: for E = a ||x||^2 / 2 its
    stationary variance is T / (a (1 - eta a / 2)), finite only for eta a < 2.

    Args:
        step_size: eta > 0, in squared units of x per unit of energy.
        step_size_end: if given, eta changes geometrically from step_size to this value in
            `anneal_steps` steps and then stays constant. In training every run of method.k steps
            starts at step_size again, also for persistent chains. In sampling the burn-in counts.
        anneal_steps: steps from the first step size to the last, both included.
        temperature: T >= 0. The target is exp(-E / T); 0 is gradient descent.
        gradient_clip: maximum Euclidean norm of dE per chain, in energy per unit of x; null: none.
        clamp: bound on every |x_i|, in units of x; null: none.
    """

    ragged: ClassVar[bool] = True

    step_size: Positive
    step_size_end: Positive | None = None
    anneal_steps: Count = 100
    temperature: NonNegative = 1.0
    gradient_clip: Positive | None = None
    clamp: Positive | None = None

    def init(self, energy: Energy, x: Tensor) -> LangevinState:
        return LangevinState(x, 0)

    def step(
        self, energy: Energy, state: LangevinState, generator: Generator
    ) -> tuple[LangevinState, StepInfo]:
        noise = torch.empty_like(state.x).normal_(generator=generator)
        return self._step_with(noise, energy, state)

    def steps(
        self, energy: Energy, state: LangevinState, n_steps: int, generator: Generator
    ) -> tuple[LangevinState, list[StepInfo]]:
        """`n_steps` steps with the numbers that `step` gives, but with the noise of many steps per
        draw and by the energy's own kernel if it has one."""
        max_count = min(_MAX_STEPS_PER_CALL, max(1, _MAX_NOISE_ELEMENTS // max(1, state.x.numel())))
        infos, unbounded = [], self.gradient_clip is None and self.clamp is None
        while n_steps:
            count = min(n_steps, max_count)
            noise = _draw_noise(state.x, count, generator)
            if unbounded and (closed_form := chain_kernels(energy, state.x)):
                sizes = [self._step_size_at(state.index + i) for i in range(count)]
                scales = [self._noise_scale(eta) for eta in sizes]
                x = closed_form.langevin(state.x, noise, sizes, scales)
                state = LangevinState(x, state.index + count)
            else:
                for xi in noise:
                    state, info = self._step_with(xi, energy, state)
                    infos.append(info)
            n_steps -= count
        return state, infos

    def _step_with(
        self, noise: Tensor, energy: Energy, state: LangevinState
    ) -> tuple[LangevinState, StepInfo]:
        eta = self._step_size_at(state.index)
        _, gradient = energy_and_gradient(energy, state.x)
        gradient, clipped = clip_gradient(gradient, self.gradient_clip)
        x = torch.add(state.x, gradient, alpha=-eta)
        x = x.add_(noise, alpha=self._noise_scale(eta))
        x, clamped = clamp(x, self.clamp)
        return LangevinState(x, state.index + 1), StepInfo(clipped=any_flag(clipped, clamped))

    def _step_size_at(self, index: int) -> float:
        return geometric_schedule(self.step_size, self.step_size_end, self.anneal_steps, index)

    def _noise_scale(self, eta: float) -> float:
        return (2 * eta * self.temperature) ** 0.5


def _draw_noise(x: Tensor, n_steps: int, generator: Generator) -> Tensor:
    """N(0, I) for `n_steps` steps, (n_steps, *x.shape): the numbers of one draw per step.

    On the CPU torch generates normal numbers in groups of 16. A single draw for all steps therefore
    gives the same numbers only if no group belongs to two steps.
    """
    noise = x.new_empty((n_steps, *x.shape))
    split_groups = x.device.type == "cpu" and x.numel() % 16
    for part in noise if split_groups else [noise]:
        part.normal_(generator=generator)
    return noise
