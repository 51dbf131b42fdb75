"""What every evaluation is given, and what it gives back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Generator, Tensor, nn

from ebmtrain.evaluation.quadrature import Region
from ebmtrain.types import Dataset, Standardization

Metric = float | list[float]


@dataclass(frozen=True, kw_only=True)
class Subject:
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
    generator: Callable[[str], Generator]
    """A stream of random numbers of its own for each purpose, on the device of the energy."""


class Evaluation(NamedTuple):
    metrics: Mapping[str, Metric]
    warnings: list[str]
    """What is wrong with these numbers, each with what to do about it."""


class Evaluator(Protocol):
    """Numbers of a model, made every `every` updates and after the last."""

    @property
    def every(self) -> int: ...

    def __call__(self, subject: Subject) -> Evaluation: ...


def exact_copy(energy: nn.Module) -> nn.Module:
    """In float64, where it is, or on the CPU if its device has no float64."""
    kept = copy.deepcopy(energy).eval().requires_grad_(False)
    if any(p.device.type == "mps" for p in (*kept.parameters(), *kept.buffers())):
        kept = kept.cpu()
    return kept.double()
