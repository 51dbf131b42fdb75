"""Parallel tempering (Swendsen & Wang, Phys. Rev. Lett. 57, 1986; Geyer, 1991)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.chain import adaptation_of, jumps_of, temperature_of
from ebmtrain.samplers.metropolis import accept_mask, acceptance_probability, choose
from ebmtrain.types import (
    Adaptation,
    ChainCount,
    Count,
    Energy,
    Placement,
    Positive,
    Sampler,
    SmallCount,
    StateSchema,
    StepInfo,
    Tensors,
    per_rank,
    schema_of,
)


class TemperingState(NamedTuple):
    levels: tuple[Any, ...]
    """States of the inner sampler, coldest first. Level 0 are the caller's chains."""
    acceptances: tuple[Tensor, ...]
    """Mean acceptance of each level in the last step, shape ()."""
    index: int
    """Steps so far."""

    @property
    def x(self) -> Tensor:
        return self.levels[0].x


@dataclass(frozen=True, kw_only=True)
class Tempering:
    """Chains at T_r = T * (hottest / T)^(r / (levels - 1)). Neighbouring levels propose to exchange
    points, (x at T_r, y at T_s) -> (y, x), accepted with probability

        min(1, exp((1 / T_r - 1 / T_s) * (E(x) - E(y)))),

    which leaves prod_r exp(-E / T_r) invariant. Hot chains cross barriers and pass their points to
    the colder levels, so wells get their correct weights even if no cold chain can cross between
    them.

    The hot chains are a reservoir of `replicas` per level. It persists from run to run in the state
    of the sampler's adaptation (see `Adaptation`) and belongs to no particular cold chain: each
    exchange pairs rows of two levels at random, as many as the smaller level has.

    Args:
        sampler: mala or hmc, whose state holds E(x). Its temperature is T.
        hottest: temperature of the last level, > T, so high that neighbouring wells merge.
        levels: number of temperatures, including the cold one, at least 2. If the metric `swapped`
            is below about 0.2, use more.
        replicas: chains per hot level.
        swap_every: steps between two rounds of exchanges.
    """

    sampler: Sampler
    hottest: Positive
    levels: SmallCount
    replicas: ChainCount
    swap_every: Count = 1

    def __post_init__(self) -> None:
        if self.levels < 2 or not self.hottest > self.temperature:
            raise ValueError(
                f"tempering needs 2 levels and a hottest temperature above {self.temperature:g}, "
                f"got levels={self.levels}, hottest={self.hottest:g}"
            )
        if jumps_of(self.sampler) is not None:
            raise ValueError("tempered chains do not jump: sampler.sampler.jumps=null")

    @property
    def temperature(self) -> float:
        return temperature_of(self.sampler)

    @property
    def adaptation(self) -> _HotReplicas:
        return _HotReplicas(adaptation_of(self.sampler))

    @property
    def temperatures(self) -> list[float]:
        ratio = self.hottest / self.temperature
        return [self.temperature * ratio ** (r / (self.levels - 1)) for r in range(self.levels)]

    def init(self, energy: Energy, x: Tensor) -> TemperingState:
        """The state with an initial reservoir. (`run_chain` supplies one by `adaptation`.)"""
        state = self.adaptation.start(self, x)
        return self.adaptation.apply(self, state).init(energy, x)

    def step(
        self, energy: Energy, state: TemperingState, generator: Generator
    ) -> tuple[TemperingState, StepInfo]:
        adaptation_state = self.adaptation.start(self, state.x)
        kernel = self.adaptation.apply(self, adaptation_state)
        return kernel.step(energy, state, generator)


@dataclass(frozen=True)
class _TemperingKernel:
    """A tempering sampler with its hot chains: the kernel that makes the steps."""

    samplers: tuple[Sampler, ...]
    hot: Tensor
    """First points of the hot chains, (levels - 1, replicas, *event)."""
    swap_every: int

    def init(self, energy: Energy, x: Tensor) -> TemperingState:
        points = (x, *self.hot)
        levels = tuple(s.init(energy, y) for s, y in zip(self.samplers, points, strict=True))
        zero = torch.zeros((), device=x.device)
        return TemperingState(levels, (zero,) * len(levels), 0)

    def step(
        self, energy: Energy, state: TemperingState, generator: Generator
    ) -> tuple[TemperingState, StepInfo]:
        levels, acceptances, infos = [], [], []
        for sampler, before in zip(self.samplers, state.levels, strict=True):
            level, info = sampler.step(energy, before, generator)
            levels.append(level)
            acceptances.append(info.acceptance.mean())  # type: ignore[union-attr]
            infos.append(info)
        swapped = None
        if state.index % self.swap_every == self.swap_every - 1:
            rates = []
            for r in range(len(levels) - 1):
                cold, hot = (s.temperature for s in self.samplers[r : r + 2])  # type: ignore
                levels[r], levels[r + 1], rate = exchange(
                    levels[r], levels[r + 1], 1 / cold - 1 / hot, generator
                )
                rates.append(rate)
            swapped = torch.stack(rates).mean().expand(len(levels[0].x))
        new = TemperingState(tuple(levels), tuple(acceptances), state.index + 1)
        return new, infos[0]._replace(swapped=swapped)


def exchange(cold: Any, hot: Any, difference: float, g: Generator) -> tuple[Any, Any, Tensor]:
    """The two levels after one round of exchanges between random pairs, and its mean acceptance.

    The other values in a state (energy, gradient) do not depend on the temperature and move with
    the point.

    Args:
        cold, hot: states of the inner sampler.
        difference: 1 / T_cold - 1 / T_hot.
    """
    device = cold.x.device
    a, b = (torch.randperm(len(s.x), generator=g, device=device) for s in (cold, hot))
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    log_ratio = difference * (cold.energy[a] - hot.energy[b])
    accept = accept_mask(log_ratio, g)

    def swap_rows(mine: Any, other: Any, rows: Tensor, others: Tensor) -> Any:
        values = (
            v.index_copy(0, rows, choose(accept, w[others], v[rows]))
            if isinstance(v, Tensor)
            else v
            for v, w in zip(mine, other, strict=True)
        )
        return type(mine)(*values)

    acceptance = acceptance_probability(log_ratio).mean()
    return swap_rows(cold, hot, a, b), swap_rows(hot, cold, b, a), acceptance


@dataclass(frozen=True)
class _HotReplicas:
    """Adaptation of `Tempering`: it keeps the hot chains from run to run (`replicas`), and the
    state of the inner sampler's adaptation at each level: of the cold level under its own names, of
    the hot levels stacked, as `hot_<name>`."""

    inner: Adaptation | None

    @property
    def state_schema(self) -> StateSchema:
        inner = schema_of(self.inner)
        hot = {f"hot_{name}": placement for name, placement in inner.items()}
        return inner | hot | per_rank("replicas", placement=Placement.PER_RANK_LEVELS)

    def start(self, sampler: Any, like: Tensor) -> Tensors:
        rows = torch.arange(sampler.replicas, device=like.device) % len(like)
        hot = like.detach()[rows].expand(sampler.levels - 1, *[-1] * like.dim()).clone()
        cold = self.inner.start(sampler.sampler, like) if self.inner is not None else {}
        stacked = {
            f"hot_{name}": value.expand(sampler.levels - 1, *value.shape).clone()
            for name, value in cold.items()
        }
        return cold | stacked | {"replicas": hot}

    def apply(self, sampler: Any, adaptation_state: Tensors) -> _TemperingKernel:
        samplers = []
        for r, t in enumerate(sampler.temperatures):
            level = sampler.sampler
            if self.inner is not None:
                level = self.inner.apply(level, _state_at_level(adaptation_state, r))
            samplers.append(replace(level, temperature=t))  # type: ignore[type-var]
        return _TemperingKernel(tuple(samplers), adaptation_state["replicas"], sampler.swap_every)

    def update(
        self, adaptation_state: Tensors, acceptance: Tensor | None, state: TemperingState
    ) -> Tensors:
        new = {"replicas": torch.stack([level.x for level in state.levels[1:]])}
        if self.inner is None or state.index == 0:
            return adaptation_state | new
        levels = [
            self.inner.update(_state_at_level(adaptation_state, r), mean, level)
            for r, (mean, level) in enumerate(zip(state.acceptances, state.levels, strict=True))
        ]
        stacked = {
            f"hot_{name}": torch.stack([level[name] for level in levels[1:]]) for name in levels[0]
        }
        return levels[0] | stacked | new


def _state_at_level(adaptation_state: Tensors, r: int) -> Tensors:
    """State of the inner adaptation at level r."""
    names = [name.removeprefix("hot_") for name in adaptation_state if name.startswith("hot_")]
    return {
        name: adaptation_state[name] if r == 0 else adaptation_state[f"hot_{name}"][r - 1]
        for name in names
    }
