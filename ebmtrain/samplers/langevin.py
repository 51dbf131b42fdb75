"""Unadjusted Langevin algorithm (Parisi, Nucl. Phys. B 180, 1981; Roberts & Tweedie, 1996)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.bounds import clamp, clip_gradient, either
from ebmtrain.samplers.step_size import geometric
from ebmtrain.score import at_once, energy_and_gradient
from ebmtrain.types import Count, Energy, NonNegative, Positive, StepInfo


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
        eta = self.size(state.index)
        _, gradient = energy_and_gradient(energy, state.x)
        gradient, clipped = clip_gradient(gradient, self.gradient_clip)
        noise = torch.empty_like(state.x).normal_(generator=generator)
        x = torch.add(state.x, gradient, alpha=-eta)
        x = x.add_(noise, alpha=self.scale(eta))
        x, clamped = clamp(x, self.clamp)
        return LangevinState(x, state.index + 1), StepInfo(clipped=either(clipped, clamped))

    def run(
        self, energy: Energy, state: LangevinState, n_steps: int, generator: Generator
    ) -> tuple[LangevinState, StepInfo] | None:
        """As many steps at once, where the energy offers that: see `AtOnce`."""
        bounded = self.gradient_clip is not None or self.clamp is not None
        if bounded or not at_once(energy, state.x):
            return None
        steps = range(state.index, state.index + n_steps)
        sizes = [self.size(index) for index in steps]
        noise = [torch.empty_like(state.x).normal_(generator=generator) for _ in steps]
        x = energy.langevin(state.x, torch.stack(noise), sizes, [self.scale(eta) for eta in sizes])
        return LangevinState(x, state.index + n_steps), StepInfo()

    def size(self, index: int) -> float:
        return geometric(self.step_size, self.step_size_end, self.anneal_steps, index)

    def scale(self, eta: float) -> float:
        return (2 * eta * self.temperature) ** 0.5
