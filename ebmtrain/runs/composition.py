"""Products and mixtures of the models of finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ebmtrain.errors import ConfigError, UnsafeError, counted
from ebmtrain.runs.loading import load
from ebmtrain.runs.trained_run import Run
from ebmtrain.types import Standardization

_MAX_TERMS = 256  # energies of a composition, including those of nested compositions
_MAX_DEPTH = 16  # nested compositions


@dataclass(frozen=True)
class _Opening:
    """The runs that the outermost composition opens."""

    chain: tuple[Path, ...] = ()
    """Runs that are being opened, each a part of the previous one."""
    opened: dict[Path, Run] = field(default_factory=dict)


_OPENING: ContextVar[_Opening | None] = ContextVar("OPENING", default=None)


class Composition(nn.Module):
    """product: E(x) = sum_i w_i E_i(x) / T_i, so that p is proportional to prod_i p_i^w_i
    (Du, Li & Mordatch, NeurIPS 2020).
    mixture: E(x) = -log sum_i w_i exp(-E_i(x) / T_i) / Z_i, so that p = sum_i w_i p_i and
    log Z = 0.

    Nothing is trained; x is in the data's own units, which are the same for all runs.

    Args:
        runs: run directories, at least one; each with its newest weights.
        kind: product or mixture.
        weights: w_i, one for each run; null: 1 each in a product, equal ones in a mixture. Those of
            a mixture are positive, and divided by their sum.

    Shapes: (batch, *event) -> (batch,).

    Raises:
        ConfigError: a run that cannot be opened or is of points of another shape; weights that do
            not fit; a mixture of runs whose log Z was not measured; too many runs.
    """

    def __init__(
        self,
        *,
        runs: Sequence[str],
        kind: Literal["product", "mixture"] = "product",
        weights: Sequence[float] | None = None,
    ):
        super().__init__()
        if not runs:
            raise ConfigError("model.runs is empty: name run directories, model.runs=[A,B]")
        if weights is not None and len(weights) != len(runs):
            raise ConfigError(
                f"model.weights has {counted(len(weights), 'number')} for "
                f"{counted(len(runs), 'run')}: give one for each"
            )
        if kind == "mixture" and weights is not None and min(weights) <= 0:
            raise ConfigError(f"model.weights of a mixture must be positive, got {list(weights)}")
        opening = _OPENING.get() or _Opening()
        opened = [_open_run(path, opening) for path in runs]
        self.n_terms = sum(
            part.n_terms if isinstance(part := run.standard_energy, Composition) else 1
            for run in opened
        )
        if self.n_terms > _MAX_TERMS:
            raise ConfigError(
                f"model.runs adds up to {self.n_terms} energies, with those of nested "
                f"compositions: name at most {_MAX_TERMS}"
            )
        self.units: list[Standardization] = [run.experiment.standardization for run in opened]
        self.event_shape = tuple(self.units[0].shift.shape)
        for path, run in zip(runs, opened, strict=True):
            shape = tuple(run.experiment.standardization.shift.shape)
            if run.experiment.data_spec.ragged:
                raise ConfigError(
                    f"{path} is of sequences of different lengths, which have no common space to "
                    "compose energies in: name runs on points of one shape"
                )
            if run.experiment.data_spec.support.space != "real":
                raise ConfigError(
                    f"{path} is of states, and compositions are of points in R^d: name runs on "
                    "real numbers"
                )
            if run.experiment.standardization.bounds is not None:
                raise ConfigError(
                    f"{path} is of data with bounds, and compositions are of points in R^d: name "
                    "runs without dataset.support"
                )
            if shape != self.event_shape:
                raise ConfigError(
                    f"{path} is of points of shape {shape}, {runs[0]} of {self.event_shape}: "
                    "compose runs of the same kind of points"
                )
        self.parts = nn.ModuleList(run.standard_energy for run in opened)
        self.temperatures = [run.temperature for run in opened]
        self.kind = kind
        w = torch.ones(len(runs)) if weights is None else torch.tensor([float(v) for v in weights])
        if kind == "mixture":
            log_z = [run.log_z for run in opened]
            if None in log_z:
                path = runs[log_z.index(None)]
                raise ConfigError(
                    f"log Z of {path} is not known, and a mixture needs it: ebmtrain evaluate "
                    f"{path}, or model.kind=product"
                )
            w = (w / w.sum()).log() - torch.tensor(log_z)
        self.register_buffer("weights", w)
        self.window = _bounding_window([run.experiment.region for run in opened], self.units)

    def forward(self, x: Tensor) -> Tensor:
        reduced = torch.stack(
            [
                # Units are in float64 and energies in the type of their weights.
                part(units.to_standard(x).to(x)) / t
                for part, units, t in zip(self.parts, self.units, self.temperatures, strict=True)
            ],
            1,
        )
        weights = self.get_buffer("weights")
        if self.kind == "product":
            return reduced @ weights
        return -torch.logsumexp(weights - reduced, 1)


def _open_run(path: str, opening: _Opening) -> Run:
    """The run, which is opened once even if several compositions name it."""
    here = Path(path).resolve()
    if here in opening.opened:
        return opening.opened[here]
    if here in opening.chain:
        raise ConfigError(f"{path} is composed of itself: name other runs in model.runs")
    if len(opening.chain) >= _MAX_DEPTH:
        raise ConfigError(
            f"{path} is in more than {_MAX_DEPTH} compositions within each other: name the runs "
            "of the innermost ones in model.runs"
        )
    if len(opening.opened) >= _MAX_TERMS:
        raise ConfigError(f"model.runs leads to more than {_MAX_TERMS} runs: name fewer")
    token = _OPENING.set(replace(opening, chain=(*opening.chain, here)))  # `opened` is shared
    try:
        opening.opened[here] = load(path)
    except UnsafeError as error:
        raise ConfigError(
            f"{path} has parts of another package than ebmtrain, which cannot be composed: {error}"
        ) from error
    finally:
        _OPENING.reset(token)
    return opening.opened[here]


def _bounding_window(regions: Sequence[Any], units: Sequence[Standardization]) -> tuple[Any, Any]:
    """Corners of the smallest box, in the data's units, that contains the regions of all runs."""
    lows, highs = [], []
    for region, unit in zip(regions, units, strict=True):
        middle, half = (region.low + region.high) / 2, (region.high - region.low) / 2
        if unit.mixing is not None:
            half = unit.mixing.abs() @ half
        centre = unit.to_data(middle.view(unit.shift.shape)).flatten()
        half = half * unit.scale.flatten()
        lows.append(centre - half)
        highs.append(centre + half)
    low, high = torch.stack(lows).amin(0), torch.stack(highs).amax(0)
    return tuple(low.tolist()), tuple(high.tolist())
