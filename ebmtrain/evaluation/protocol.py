"""The interface of evaluators: their input and their result."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from ebmtrain.datasets.support import REAL
from ebmtrain.types import Dataset, Region, Sampler, Standardization, Support

Metric = float | list[float]
# Kept out of rows and checkpoints, since no two runs share them.
_WALL_CLOCK_METRICS = frozenset({"ess_per_second"})


def split_timings(metrics: Mapping[str, Metric]) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """Separates the metrics of wall clock from the others.

    Returns:
        (metrics that two equal runs share, metrics of wall clock).
    """
    timings = {k: v for k, v in metrics.items() if k in _WALL_CLOCK_METRICS}
    return {k: v for k, v in metrics.items() if k not in timings}, timings


class Trace(NamedTuple):
    """Chains of the run's own sampler after their burn-in."""

    points: Tensor
    """(draws, chains, *event), standardized, on the CPU."""
    rates: Mapping[str, float]
    """Means over the draws of the metrics of `run_chain`."""
    evaluations: int
    """Number of energy evaluations that the draws took; see `score.count_evaluations`."""
    seconds: float
    """Wall-clock time that the draws took."""


@dataclass(frozen=True, kw_only=True)
class EvaluationInput:
    """A model at one step of its training: p(u) = exp(-E(u) / T) / Z over standardized points u."""

    energy: nn.Module
    """E with the evaluated weights, (batch, *event) -> (batch,)."""
    temperature: float
    region: Region
    """Box in standardized units that contains the data, or the wells of a landscape."""
    standardization: Standardization
    dataset: Dataset | None
    """None for an analytic landscape."""
    draw: Callable[[int], Tensor]
    """count -> points of the model from the run's own sampler, (count, *event), standardized. Each
    call runs chains.
    """
    sampler: Sampler
    """The run's own sampler."""
    method: Mapping[str, Tensor]
    """The state of the method; empty if it has none."""
    trace: Callable[[int, int, int], Trace]
    """(chains, draws of each chain, steps between two draws) -> `Trace`. Cached: the chains run
    once for the same arguments.
    """
    generator: Callable[[str], Generator]
    """purpose -> a generator of its own for each purpose, on the device of the energy."""
    support: Support = REAL
    """The space that events are in."""

    def cpu_generator(self, purpose: str) -> Generator:
        """The generator of this purpose with the same seed on the CPU."""
        return Generator().manual_seed(self.generator(purpose).initial_seed())

    def reduced_energy(self) -> Callable[[Tensor], Tensor]:
        """E / T in float64 on the CPU, (n, d) -> (n,), of flattened standardized points."""
        energy = float64_copy(self.energy).cpu()
        return lambda u: energy(u.view(-1, *self.standardization.shift.shape)) / self.temperature


class Evaluation(NamedTuple):
    """Metrics of a model, and warnings about them."""

    metrics: Mapping[str, Metric]
    warnings: list[str]
    """What is wrong with the metrics, each with its remedy."""


class Evaluator(Protocol):
    """Computes numbers about a model every `every` updates, after the last update and, unless
    `at_start` is False, before the first; never if `every` is 0. `at_start` is False where an
    untrained model has no meaningful value.
    """

    @property
    def every(self) -> int: ...

    def __call__(self, inputs: EvaluationInput) -> Evaluation: ...


@runtime_checkable
class HasAtStart(Protocol):
    """An evaluator that declares whether it evaluates the untrained model."""

    at_start: bool
    """Whether the evaluation is made before the first update too. Default: True."""


@runtime_checkable
class ChecksDimensions(Protocol):
    """An evaluator whose cost depends on the number of coordinates of a point."""

    def check_dimensions(self, d: int) -> None:
        """
        Raises:
            ConfigError: points of d coordinates would take too much memory.
        """
        ...


def float64_copy(energy: nn.Module) -> nn.Module:
    """A frozen copy in float64 and in evaluation mode, on the same device; on the CPU if the device
    has no float64 (MPS).
    """
    frozen = copy.deepcopy(energy).eval().requires_grad_(False)
    if any(p.device.type == "mps" for p in (*frozen.parameters(), *frozen.buffers())):
        frozen = frozen.cpu()
    return frozen.double()
