"""Underdamped Langevin dynamics in the splitting BAOAB (Leimkuhler & Matthews, Appl. Math. Res.
Express 2013; J. Chem. Phys. 138, 2013)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.bounds import any_flag, clamp, clip_gradient
from ebmtrain.score import energy_and_gradient
from ebmtrain.types import Energy, Positive, StepInfo


class UnderdampedState(NamedTuple):
    x: Tensor
    velocity: Tensor | None
    """None before the first step, which samples it from N(0, T I)."""
    gradient: Tensor
    """dE(x), clipped if `gradient_clip` is set."""
    clipped: Tensor | None
    """1 where the gradient was clipped, else 0."""


@dataclass(frozen=True, kw_only=True)
class Underdamped:
    """dx = v dt,  dv = -dE(x) dt - gamma v dt + sqrt(2 gamma T) dW, discretized with step h as

        v -= h/2 dE(x);  x += h/2 v;  v = c v + sqrt(T (1 - c^2)) xi;  x += h/2 v;  v -= h/2 dE(x),

    c = exp(-gamma h), xi ~ N(0, I). There is no rejection, so the chain has a bias of O(h^2). For a
    quadratic energy E = a ||x||^2 / 2 the positions are exact, with variance T / a, at any
    h < 2 / sqrt(a). A new chain samples its velocity; a chain continued from a state keeps it.

    Args:
        step_size: h > 0, in units of x (the mass is 1).
        friction: gamma > 0, per unit of time. Far above the square root of the curvature the motion
            is overdamped and slow, far below it oscillates.
        temperature: T > 0. The target is exp(-E / T).
        gradient_clip, clamp: as for `Langevin`.
    """

    ragged: ClassVar[bool] = True

    step_size: Positive
    friction: Positive = 1.0
    temperature: Positive = 1.0
    gradient_clip: Positive | None = None
    clamp: Positive | None = None

    def init(self, energy: Energy, x: Tensor) -> UnderdampedState:
        _, gradient = energy_and_gradient(energy, x)
        return UnderdampedState(x, None, *clip_gradient(gradient, self.gradient_clip))

    def step(
        self, energy: Energy, state: UnderdampedState, generator: Generator
    ) -> tuple[UnderdampedState, StepInfo]:
        half = self.step_size / 2
        v = state.velocity
        if v is None:
            v = self.temperature**0.5 * torch.empty_like(state.x).normal_(generator=generator)
        decay = math.exp(-self.friction * self.step_size)
        noise_scale = math.sqrt(self.temperature * (1 - decay**2))

        v = v - half * state.gradient
        x = state.x + half * v
        v = decay * v + noise_scale * torch.empty_like(x).normal_(generator=generator)
        x, clamped = clamp(x + half * v, self.clamp)
        _, gradient = energy_and_gradient(energy, x)
        gradient, clipped = clip_gradient(gradient, self.gradient_clip)
        v = v - half * gradient
        info = StepInfo(clipped=any_flag(state.clipped, clamped))
        return UnderdampedState(x, v, gradient, clipped), info
