"""What every evaluation is given, and what it gives back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from ebmtrain.datasets.support import REAL
from ebmtrain.types import Dataset, Region, Sampler, Standardization, Support

Metric = float | list[float]
# Metrics of wall clock, which no two runs share: kept out of rows and checkpoints.
_WALL_CLOCK_METRICS = frozenset({"ess_per_second"})


def split_timings(metrics: Mapping[str, Metric]) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """What two runs share, and what is of the wall clock."""
    timings = {k: v for k, v in metrics.items() if k in _WALL_CLOCK_METRICS}
    return {k: v for k, v in metrics.items() if k not in timings}, timings


class Trace(NamedTuple):
    """Chains of the run's own sampler, after their burn-in."""

    points: Tensor
    """(draws, chains, *event), standardized, on the CPU."""
    rates: Mapping[str, float]
    """The metrics of `run_chain`, means over the draws."""
    evaluations: int
    """Of the energy, for these draws: see `score.count_evaluations`."""
    seconds: float
    """Wall clock that they took."""


@dataclass(frozen=True, kw_only=True)
class EvaluationInput:
    """A model at one moment: p(u) = exp(-E(u) / T) / Z over standardized points u."""

    energy: nn.Module
    """The evaluated weights, (batch, *event) -> (batch,)."""
    temperature: float
    region: Region
    """Box in standardized units that holds the data, or a landscape's wells."""
    standardization: Standardization
    dataset: Dataset | None
    """None for an analytic landscape."""
    draw: Callable[[int], Tensor]
    """`count` points of the model by the run's own sampler, (count, *event), standardized. Chains
    run for it: ask once."""
    sampler: Sampler
    """The run's own."""
    method: Mapping[str, Tensor]
    """The state of the method; {}: there is none."""
    trace: Callable[[int, int, int], Trace]
    """Of so many chains, draws of each and steps between two draws. The same chains for the same
    numbers, run once."""
    generator: Callable[[str], Generator]
    """A stream of random numbers of its own for each purpose, on the device of the energy."""
    support: Support = REAL
    """The space that events live in."""


class Evaluation(NamedTuple):
    metrics: Mapping[str, Metric]
    warnings: list[str]
    """What is wrong with these numbers, each with what to do about it."""


class Evaluator(Protocol):
    """Numbers of a model, made every `every` updates and after the last; before the first too, but
    by one whose `at_start` is False, for which an untrained model says nothing."""

    @property
    def every(self) -> int: ...

    def __call__(self, inputs: EvaluationInput) -> Evaluation: ...


@runtime_checkable
class HasAtStart(Protocol):
    at_start: bool
    """Whether the evaluation is made before the first update too. Default: True."""


def float64_copy(energy: nn.Module) -> nn.Module:
    """In float64, where it is, or on the CPU if its device has no float64."""
    kept = copy.deepcopy(energy).eval().requires_grad_(False)
    if any(p.device.type == "mps" for p in (*kept.parameters(), *kept.buffers())):
        kept = kept.cpu()
    return kept.double()
