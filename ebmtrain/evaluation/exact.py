"""NLL, KL, regret and mode weights from log Z by quadrature in up to three dimensions, or from an
energy that knows its log Z.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from annotated_types import Le
from torch import Tensor, nn

from ebmtrain.evaluation.estimators.adaptive_quadrature import expectation
from ebmtrain.evaluation.estimators.grid_quadrature import CHUNK, LogZ, integrate_log_z
from ebmtrain.evaluation.estimators.modes import mass_kl, mode_masses
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Metric, float64_copy
from ebmtrain.score import in_chunks
from ebmtrain.types import Count, Dataset, Density, Normalised, Positive, Region, Standardization

_TRUTH_SAMPLES = 5_000
_TRUTH_REGION_FACTOR = 1.6  # width of the region that holds the true mass, in ranges of its samples
_MAX_RESOLUTION = 8192  # cells per axis: 67 million points of the plane
_MAX_GRID_DIMENSIONS = 3
# Largest difference between log Z by quadrature and the model's own, in multiples of the tolerance.
_MAX_TOLERANCES = 10.0


@dataclass(frozen=True, kw_only=True)
class Quadrature:
    """Exact evaluation of p(x) = exp(-E(x) / T) / Z, in nats and in the data's units. Z is computed
    by quadrature in float64 in up to three dimensions, or is given by the energy itself
    (`Normalised`) in any number of dimensions.

    log_z         log Z
    nll, nll_se   -mean log p(x) over the held-out points, and its standard error
    entropy       of the true density, where known: a lower bound of the NLL of any model
    regret        nll - entropy. If nll is below the entropy by more than chance, log Z is wrong:
                  regret and kl are left out and a warning is given
    kl            KL(data || model) = integral of p_true (log p_true - log p), on the grid of log Z
                  if that resolves p_true, else by an adaptive rule. If its error is above the
                  tolerance, kl and mode_kl are left out and a warning is given. In more than three
                  dimensions the mean of log p_true - log p over the held-out points, with its
                  standard error kl_se
    log_density_mse  mean of (log p_true(x) - log p(x))^2 over the held-out points
    mode_weights  mass of the model nearest to each known mode
    mode_kl       KL(true masses || mode_weights), at most kl: the part of kl that is due to wrong
                  weights of the modes

    Args:
        every: updates between two evaluations; the last update always makes one.
        resolution: initial number of cells per axis in two dimensions (64 times as many in one, a
            quarter in three); at most 8192.
        margin: width added to the data's range on each side, as a fraction of it.
        tolerance: largest error of log Z in nats that gives no warning, and of KL.
    """

    every: Count
    resolution: Annotated[Count, Le(_MAX_RESOLUTION)] = 256
    margin: Positive = 0.3
    tolerance: Positive = 1e-3

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        """The metrics of the model; for an analytic landscape log Z only."""
        standardization, dataset = inputs.standardization, inputs.dataset
        d = len(inputs.region.low)
        exact = float64_copy(inputs.energy).cpu()
        known = model_log_z(exact, inputs.temperature)

        def reduced(u: Tensor) -> Tensor:
            return exact(u.view(-1, *standardization.shift.shape)) / inputs.temperature

        if d > _MAX_GRID_DIMENSIONS:
            if known is not None:
                return _evaluate_without_grid(reduced, known, standardization, dataset)
            notice = (
                "no exact evaluation: quadrature works in up to "
                f"{_MAX_GRID_DIMENSIONS} dimensions, the data have {d}; choose evaluation=ais"
            )
            return Evaluation({}, [notice])
        n_per_axis = max(
            8, {1: self.resolution * 64, 3: self.resolution // 4}.get(d, self.resolution)
        )
        result = integrate_log_z(
            reduced,
            inputs.support.integration_box(inputs.region, self.margin),
            n_per_axis,
            self.tolerance,
        )
        warnings = self.warnings(result)
        if known is not None:
            if not warnings and not abs(known - result.value) <= _MAX_TOLERANCES * self.tolerance:
                warnings.append(
                    f"log Z is {known:.4f} by the model's own log_z and {result.value:.4f} by "
                    "quadrature: one is wrong; raise evaluation.resolution, or correct the model"
                )
            result = result._replace(value=known)
        volume = standardization.log_volume
        metrics: dict[str, Metric] = {"log_z": result.value + volume}
        if dataset is not None:
            u = standardization.to_standard(dataset.holdout)
            log_p = log_density(reduced, u, result.value + volume)
            nll, nll_se = mean_nll(log_p)
            metrics |= nll_metrics(nll, nll_se)
            if dataset.truth is not None:
                exact_metrics, unresolved = _truth_metrics(
                    reduced, result, inputs.region, standardization, dataset.truth, self.tolerance
                )
                metrics |= exact_metrics
                error = dataset.truth.log_prob(dataset.holdout) - log_p
                metrics["log_density_mse"] = float(error.square().mean())
                failed = "log Z is wrong; raise evaluation.resolution"
                checked, below = check_entropy_bound(metrics, dataset.truth.entropy, nll_se, failed)
                apart = _disagreement(checked, nll_se, self.tolerance)
                return Evaluation(checked, [*warnings, *unresolved, *below, *apart])
        return Evaluation(metrics, warnings)

    def warnings(self, result: LogZ) -> list[str]:
        """Warnings about the error of log Z."""
        messages = []
        if not result.resolution_error <= self.tolerance:
            messages.append(
                f"log Z is uncertain: half the resolution differs by {result.resolution_error:.2g} "
                "nats; raise evaluation.resolution"
            )
        if not result.outside <= self.tolerance:
            messages.append(
                f"log Z is uncertain: {result.outside:.1%} of the mass is outside of the box; "
                "set model.base_std, or train longer"
            )
        return messages


def _evaluate_without_grid(
    reduced: Callable[[Tensor], Tensor],
    known: float,
    units: Standardization,
    dataset: Dataset | None,
) -> Evaluation:
    """Metrics from a known log Z and the held-out points, in any number of dimensions.

    Args:
        reduced: E / T of standardized points, float64.
        known: log Z over standardized points.
        units: standardized units of the data.
        dataset: None for an analytic landscape.
    """
    metrics: dict[str, Metric] = {"log_z": known + units.log_volume}
    if dataset is None:
        return Evaluation(metrics, [])
    log_p = log_density(reduced, units.to_standard(dataset.holdout), known + units.log_volume)
    nll, nll_se = mean_nll(log_p)
    metrics |= nll_metrics(nll, nll_se)
    if dataset.truth is None:
        return Evaluation(metrics, [])
    difference = dataset.truth.log_prob(dataset.holdout) - log_p
    kl, kl_se = mean_nll(-difference)
    mse = float(difference.square().mean())
    metrics |= {"kl": kl, "kl_se": kl_se, "log_density_mse": mse}
    failed = "the model's own log_z is wrong; correct the model"
    return check_entropy_bound(metrics, dataset.truth.entropy, nll_se, failed)


def log_density(reduced: Callable[[Tensor], Tensor], u: Tensor, log_z: float) -> Tensor:
    """log p(u) = -E(u) / T - log Z of points u, (n,).

    Args:
        reduced: E / T, (batch, *event) -> (batch,).
        u: standardized, (n, *event), float64.
        log_z: log Z.
    """
    with torch.no_grad():
        return -in_chunks(reduced, u, CHUNK) - log_z


def mean_nll(log_p: Tensor) -> tuple[float, float]:
    """NLL in nats and its standard error, std(log p) / sqrt(n); the error of a single point is
    infinite.

    Args:
        log_p: log p of independent points, (n,).
    """
    error = float(log_p.std()) / math.sqrt(len(log_p)) if len(log_p) > 1 else math.inf
    return -float(log_p.mean()), error


def nll_metrics(nll: float, nll_se: float) -> dict[str, Metric]:
    """`nll` and, where it is known, `nll_se`."""
    metrics: dict[str, Metric] = {"nll": nll}
    return metrics if nll_se == math.inf else metrics | {"nll_se": nll_se}


class _TruthPoints(NamedTuple):
    """Points that resolve the true density, for sums in the place of its integrals."""

    x: Tensor
    """(n, *event), in the data's units."""
    p: Tensor
    """(n,), true mass of each point; their sum is 1."""
    kl: float


def _truth_metrics(
    reduced: Callable[[Tensor], Tensor],
    result: LogZ,
    region: Region,
    units: Standardization,
    truth: Density,
    tolerance: float,
) -> Evaluation:
    """kl and, where modes are known, mode_weights and mode_kl. kl and mode_kl are left out, with a
    warning, if neither the grid of log Z nor the adaptive rule resolves the true density."""
    x = units.to_data(result.grid.points.view(-1, *units.shift.shape))
    points, warnings = _truth_on_grid(x, result, units, truth, tolerance), []
    if points is None:
        points, warnings = _truth_on_boxes(reduced, result, region, units, truth, tolerance)
    metrics: dict[str, Metric] = {} if points is None else {"kl": points.kl}
    if truth.modes is not None:
        log_q = -result.grid.energy - result.value - units.log_volume
        own = mode_masses(x, torch.softmax(log_q, 0), truth.modes)
        metrics["mode_weights"] = own.tolist()
        if points is not None:
            metrics["mode_kl"] = mass_kl(mode_masses(points.x, points.p, truth.modes), own)
    return Evaluation(metrics, warnings)


def _truth_on_grid(
    x: Tensor, result: LogZ, units: Standardization, truth: Density, tolerance: float
) -> _TruthPoints | None:
    """The points of the grid; None where it is too coarse for the true density: its mass on the
    grid is not 1 within the tolerance, or half of the points give another KL.

    Args:
        x: points of the grid, (n, *event), in the data's units.
    """
    grid = result.grid
    log_p = in_chunks(truth.log_prob, x, 65_536)
    log_q = -grid.energy - result.value - units.log_volume

    def kl(rows: Tensor | slice, log_cell: float) -> tuple[Tensor, float]:
        p = torch.softmax(log_p[rows], 0)
        terms = torch.where(p > 0, p * (p.log() - log_cell - units.log_volume - log_q[rows]), 0.0)
        return p, float(terms.sum())

    log_mass = float(torch.logsumexp(log_p, 0)) + grid.log_cell + units.log_volume
    p, value = kl(slice(None), grid.log_cell)
    # Every second point along each axis, in turns: a grid that is coarser by 2^(1/d).
    d, n = grid.points.shape[1], torch.arange(grid.n_per_axis)
    even = torch.cartesian_prod(*[n] * d).view(-1, d).sum(1) % 2 == 0
    half = kl(even, grid.log_cell + math.log(2))[1]
    # Where the model has no mass at all at a point of the truth, KL is infinite on any grid.
    resolved = abs(log_mass) <= tolerance and abs(half - value) <= tolerance
    return _TruthPoints(x, p, value) if resolved or value == math.inf else None


def _truth_on_boxes(
    reduced: Callable[[Tensor], Tensor],
    result: LogZ,
    region: Region,
    units: Standardization,
    truth: Density,
    tolerance: float,
) -> tuple[_TruthPoints | None, list[str]]:
    """The points of the adaptive rule; None, and a warning, where its error is above the tolerance.

    Args:
        reduced: E / T of standardized points, float64.
        region: holds the data, standardized.
    """
    seeds = truth.sample(_TRUTH_SAMPLES, torch.Generator().manual_seed(0))
    if truth.modes is not None:
        seeds = torch.cat([seeds, truth.modes.centres.to(seeds)])
    u = units.to_standard(seeds).flatten(1)
    own = Region(u.amin(0), u.amax(0)).grown(_TRUTH_REGION_FACTOR)
    box = Region(torch.minimum(region.low, own.low), torch.maximum(region.high, own.high))

    def log_p(u: Tensor) -> Tensor:
        x = units.to_data(u.view(-1, *units.shift.shape))
        return in_chunks(truth.log_prob, x, 65_536) + units.log_volume

    def log_ratio(u: Tensor, log_p: Tensor) -> Tensor:
        return log_p - log_density(reduced, u, result.value)

    found = expectation(log_p, log_ratio, box, u, tolerance)
    if found.error <= tolerance:
        x = units.to_data(found.points.view(-1, *units.shift.shape))
        return _TruthPoints(x, found.masses, found.value), []
    warning = (
        f"no KL: the error of its quadrature is {found.error:.2g} nats, as the true density is too "
        f"fine (it integrates to {found.mass:.6g}); see regret, or raise evaluation.tolerance"
    )
    return None, [warning]


@torch.no_grad()
def model_log_z(energy: nn.Module, temperature: float) -> float | None:
    """log Z of exp(-E / T) over the points that the energy takes, as the energy itself gives it,
    with the precision of its parameters; None if it gives none, or none at this T.

    Raises:
        ValueError: the energy gives NaN.
    """
    if not isinstance(energy, Normalised) or not callable(energy.log_z):
        return None
    result = energy.log_z(temperature)
    if result is None:
        return None
    value = float(result)
    if value != value:
        raise ValueError(
            f"log_z of {type(energy).__name__} is {value} at temperature {temperature}"
        )
    return value


_MAX_DISAGREEMENT_SE = 5.0


def _disagreement(metrics: Mapping[str, Metric], nll_se: float, tolerance: float) -> list[str]:
    """A warning where kl and regret, which estimates it, differ by more than their errors."""
    kl, regret = metrics.get("kl"), metrics.get("regret")
    if not (isinstance(kl, float) and isinstance(regret, float)):
        return []
    if not abs(kl - regret) > _MAX_DISAGREEMENT_SE * nll_se + 2 * tolerance:
        return []
    return [
        f"KL is {kl:.4f} and regret {regret:.4f}, with a standard error of {nll_se:.2g}: the "
        "density or the entropy of the truth is wrong, or the held-out points are not from it"
    ]


_MAX_BELOW_ENTROPY_SE = 4.0
_BOUNDED_METRICS = ("kl", "regret")  # >= 0 for a correct log Z


def check_entropy_bound(
    metrics: Mapping[str, Metric], entropy: float, error: float, what: str
) -> Evaluation:
    """The metrics with `entropy` and `regret`; without regret and kl, and with a warning, if the
    NLL is below the entropy by more than 4 standard errors.

    Args:
        metrics: with `nll`.
        entropy: of the true density, in nats.
        error: standard error of the NLL.
        what: for the warning, what failed and which option to change.
    """
    nll = metrics["nll"]
    assert isinstance(nll, float)
    full = {**metrics, "entropy": entropy, "regret": nll - entropy}
    if not nll < entropy - _MAX_BELOW_ENTROPY_SE * error:
        return Evaluation(full, [])
    warning = (
        f"the NLL of {nll:.4f} is {entropy - nll:.2g} nats below the entropy of the data, which "
        f"is impossible: {what}"
    )
    return Evaluation({k: v for k, v in full.items() if k not in _BOUNDED_METRICS}, [warning])
