"""Simulated annealing of chains (Kirkpatrick et al., Science 220, 1983; with Langevin steps, Song &
Ermon, NeurIPS 2019)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from torch import Generator, Tensor

from ebmtrain.samplers.chain import adaptation_of, jumps_of, temperature_of
from ebmtrain.samplers.step_size import geometric_schedule
from ebmtrain.types import (
    Count,
    Energy,
    HasStepSize,
    HasStepSizeEnd,
    HasTemperature,
    NonNegative,
    Positive,
    Sampler,
    StepInfo,
)


class AnnealedState(NamedTuple):
    inner: Any
    index: int

    @property
    def x(self) -> Tensor:
        return self.inner.x


@dataclass(frozen=True, kw_only=True)
class Annealed:
    """Steps of `sampler` at T_i = T_start * (T / T_start)^(i / (n - 1)) for i < n, then at T, with
    T the sampler's own temperature and n = anneal_steps. Its step size is multiplied by
    (T_i / T)^a.

    At a high temperature chains cross barriers, at a low one they concentrate in wells, so chains
    from noise reach the wells. Fast cooling leaves each chain in the well whose basin it is in: for
    small n the weights of the wells are those of their basins at T_start, not those of
    exp(-E / T). Use it to find wells and for short-run training; use `tempering` if the weights
    matter.

    Args:
        sampler: mala, hmc, langevin or another sampler with a temperature and a step size. No
            adaptation: its acceptance would be a mean over all temperatures.
        temperature_start: T_start > 0.
        anneal_steps: n, in steps of a chain. In training every run of method.k steps starts at
            T_start again. In sampling the burn-in counts.
        exponent: a >= 0. 0 for langevin, mala and underdamped: the curvature of E bounds their step
            size at every temperature. (The noise of langevin, sqrt(2 eta T), already scales with T:
            the alpha = 2 eta T of Song & Ermon is proportional to T.) 1/2 for hmc, whose dynamics
            are those of E / T.
    """

    ragged: ClassVar[bool] = True  # if the inner sampler is

    sampler: Sampler
    temperature_start: Positive
    anneal_steps: Count
    exponent: NonNegative = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.sampler, HasTemperature) or not self.sampler.temperature > 0:
            raise ValueError("annealed needs a sampler with a temperature above 0")
        if adaptation_of(self.sampler) is not None:
            raise ValueError("annealed sets the step sizes itself: sampler.sampler.adaptation=null")
        if jumps_of(self.sampler) is not None:
            raise ValueError("annealed chains do not jump: sampler.sampler.jumps=null")

    @property
    def temperature(self) -> float:
        return temperature_of(self.sampler)

    def init(self, energy: Energy, x: Tensor) -> AnnealedState:
        return AnnealedState(self.sampler.init(energy, x), 0)

    def step(
        self, energy: Energy, state: AnnealedState, generator: Generator
    ) -> tuple[AnnealedState, StepInfo]:
        end = self.temperature
        t = geometric_schedule(self.temperature_start, end, self.anneal_steps, state.index)
        factor = (t / end) ** self.exponent
        step_sizes = {}
        if isinstance(self.sampler, HasStepSize):
            step_sizes["step_size"] = self.sampler.step_size * factor
        if isinstance(self.sampler, HasStepSizeEnd) and self.sampler.step_size_end is not None:
            step_sizes["step_size_end"] = self.sampler.step_size_end * factor
        kernel = replace(self.sampler, temperature=t, **step_sizes)  # type: ignore[type-var]
        inner, info = kernel.step(energy, state.inner, generator)
        return AnnealedState(inner, state.index + 1), info
