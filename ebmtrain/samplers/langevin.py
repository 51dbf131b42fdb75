"""Unadjusted Langevin algorithm (Parisi, Nucl. Phys. B 180, 1981; Roberts & Tweedie, 1996)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.bounds import any_flag, clamp, clip_gradient, has_bounds
from ebmtrain.samplers.step_size import geometric_schedule
from ebmtrain.score import at_once, energy_and_gradient
from ebmtrain.types import Count, Energy, NonNegative, Positive, StepInfo

_MAX_NOISE_ELEMENTS = 2**22  # numbers drawn at once, at most
_MAX_STEPS_PER_CALL = 1000  # made at once, at most: between them, signals are heard


class LangevinState(NamedTuple):
    x: Tensor
    index: int


@dataclass(frozen=True, kw_only=True)
class Langevin:
    """x' = x - eta * dE(x) + sqrt(2 * eta * T) * xi, with xi ~ N(0, I).

    Every proposal is accepted, so the chain is biased at any eta > 0: for E = a ||x||^2 / 2 its
    stationary variance is T / (a (1 - eta a / 2)), finite for eta a < 2 only.

    Args:
        step_size: eta > 0, in squared units of x per unit of energy.
        step_size_end: where given, eta goes geometrically to it in `anneal_steps` steps and stays
            there. In training each run of method.k steps begins anew at step_size, persistent
            chains too; where points are drawn, the burn-in is part of the chain.
        anneal_steps: steps from the first size to the last, both included.
        temperature: T >= 0. The target is exp(-E / T); 0 is gradient descent.
        gradient_clip: largest Euclidean norm of dE per chain, in energy per unit of x; null: none.
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
        return self.moved(energy, state, noise)

    def steps(
        self, energy: Energy, state: LangevinState, n_steps: int, generator: Generator
    ) -> tuple[LangevinState, list[StepInfo]]:
        """Noise for many steps is drawn at once, and these are made by the energy where it can."""
        most = min(_MAX_STEPS_PER_CALL, max(1, _MAX_NOISE_ELEMENTS // max(1, state.x.numel())))
        infos = []
        while n_steps:
            count = min(n_steps, most)
            noise = draw_noise(state.x, count, generator)
            if not has_bounds(self) and (closed_form := at_once(energy, state.x)):
                sizes = [self.size(state.index + i) for i in range(count)]
                x = closed_form.langevin(state.x, noise, sizes, [self.scale(eta) for eta in sizes])
                state = LangevinState(x, state.index + count)
            else:
                for of_step in noise:
                    state, info = self.moved(energy, state, of_step)
                    infos.append(info)
            n_steps -= count
        return state, infos

    def moved(
        self, energy: Energy, state: LangevinState, noise: Tensor
    ) -> tuple[LangevinState, StepInfo]:
        eta = self.size(state.index)
        _, gradient = energy_and_gradient(energy, state.x)
        gradient, clipped = clip_gradient(gradient, self.gradient_clip)
        x = torch.add(state.x, gradient, alpha=-eta)
        x = x.add_(noise, alpha=self.scale(eta))
        x, clamped = clamp(x, self.clamp)
        return LangevinState(x, state.index + 1), StepInfo(clipped=any_flag(clipped, clamped))

    def size(self, index: int) -> float:
        return geometric_schedule(self.step_size, self.step_size_end, self.anneal_steps, index)

    def scale(self, eta: float) -> float:
        return (2 * eta * self.temperature) ** 0.5


def draw_noise(x: Tensor, n_steps: int, generator: Generator) -> Tensor:
    """N(0, I) of so many steps, (n_steps, *x.shape): on the CPU, however many, the numbers that
    one draw for each step gives. There torch makes them 16 at a time, so one draw does where none
    of these is shared by two steps."""
    noise = x.new_empty((n_steps, *x.shape))
    shared = x.device.type == "cpu" and x.numel() % 16
    for part in noise if shared else [noise]:
        part.normal_(generator=generator)
    return noise
