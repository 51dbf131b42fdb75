"""NLL, KL, regret and mode weights from log Z by quadrature in up to three dimensions, by a sum
over all states, or from an energy that knows its log Z.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple, TypeVar

import torch
from annotated_types import Le
from torch import Tensor, nn

from ebmtrain.datasets.extremes import extreme_values
from ebmtrain.datasets.support import Continuous
from ebmtrain.errors import ConfigError, counted
from ebmtrain.evaluation.estimators.adaptive_quadrature import expectation
from ebmtrain.evaluation.estimators.grid_quadrature import (
    CHUNK,
    LogZ,
    check_points,
    integrate_log_z,
    refine_log_z,
)
from ebmtrain.evaluation.estimators.modes import mass_kl, mode_masses
from ebmtrain.evaluation.estimators.states import MAX_STATES, over_all_states
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Metric, float64_copy
from ebmtrain.score import in_chunks
from ebmtrain.types import (
    Count,
    Density,
    Normalised,
    Positive,
    Region,
    Space,
    Standardization,
    WholeNumber,
)

_TRUTH_SAMPLES = 5_000
_TRUTH_REGION_FACTOR = 1.6  # width of the region that holds the true mass, in ranges of its samples
_MAX_RESOLUTION = 8192
_MAX_GRID_POINTS = _MAX_RESOLUTION**2  # 67 million
_MAX_GRID_DIMENSIONS = 3
# Largest difference between log Z by quadrature and the model's own, in multiples of the tolerance.
_MAX_TOLERANCES = 10.0
# In nats, above which the tree of boxes takes the place of a finer grid.
_MAX_GRID_ERROR = 1.0
_N_SEEDS = 1_000  # training points, near which the model is expected to have mass


@dataclass(frozen=True, kw_only=True)
class Quadrature:
    """Exact evaluation of p(x) = exp(-E(x) / T) / Z, in nats and in the data's units. Z is computed
    by quadrature in float64 in up to three dimensions, or is given by the energy itself
    (`Normalised`) in any number of dimensions. Of binary states Z is the sum over all of them, of
    up to 22 sites, and KL a sum too.

    log_z         log Z
    nll, nll_se   -mean log p(x) over the held-out points, and its standard error
    entropy       of the true density, where known: a lower bound of the NLL of any model
    regret        nll - entropy. If nll is below the entropy by more than chance, log Z is wrong,
                  and all that depends on it is left out with a warning
    kl            KL(data || model) = integral of p_true (log p_true - log p), on the grid of log Z
                  if that resolves p_true, else by an adaptive rule. If its error is above the
                  tolerance, kl and mode_kl are left out and a warning is given. In more than three
                  dimensions the mean of log p_true - log p over the held-out points, with its
                  standard error kl_se
    log_density_mse  mean of (log p_true(x) - log p(x))^2 over the held-out points
    mode_weights  mass of the model nearest to each known mode
    mode_kl       KL(true masses || mode_weights), at most kl: the part of kl that is due to wrong
                  weights of the modes

    model_entropy, log_likelihood_total   of binary states: -E[log p] under the model, and the sum
                  of log p over the held-out points

    Where the grid does not resolve exp(-E / T) or does not hold its mass, log Z is computed on a
    tree of boxes that are divided where the mass is. If its error is above the tolerance there too,
    or it disagrees with that of the model itself, all numbers are left out, with a warning that
    names extreme values of the data.

    Args:
        every: updates between two evaluations, see `Evaluator`.
        resolution: initial number of cells per axis in two dimensions (64 times as many in one, a
            quarter in three); at most 8192, and at most 67 million cells in all.
        margin: width added to the data's range on each side, as a fraction of it.
        tolerance: largest error of log Z and of KL, in nats.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"real", "binary", "categorical"})

    every: WholeNumber
    resolution: Annotated[Count, Le(_MAX_RESOLUTION)] = 256
    margin: Positive = 0.3
    tolerance: Positive = 1e-3

    def cells_per_axis(self, d: int) -> int:
        """Initial number of cells along each axis of the grid in d <= 3 dimensions."""
        return max(8, {1: 64 * self.resolution, 3: self.resolution // 4}.get(d, self.resolution))

    def check_dimensions(self, d: int) -> None:
        """
        Raises:
            ConfigError: the grid in d dimensions has more than 67 million points.
        """
        n = self.cells_per_axis(d)
        if d <= _MAX_GRID_DIMENSIONS and n**d > _MAX_GRID_POINTS:
            largest = self.resolution * int(_MAX_GRID_POINTS ** (1 / d)) // n
            raise ConfigError(
                f"evaluation.resolution={self.resolution} makes a grid of {n**d:,} points in "
                f"{counted(d, 'dimension')}: lower it to at most {largest}"
            )

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        """The metrics of the model; for an analytic landscape log Z only."""
        if inputs.support.space != "real":
            return _evaluate_states(inputs)
        units, dataset = inputs.standardization, inputs.dataset
        d, reduced = len(inputs.region.low), inputs.reduced_energy()
        result = None
        log_z = model_log_z(float64_copy(inputs.energy).cpu(), inputs.temperature)
        if d <= _MAX_GRID_DIMENSIONS:
            result = self.integrate(reduced, inputs)
            wrong = self.warnings(result, log_z)
            if wrong and (log_z is None or result.is_known(self.tolerance)):
                cause = [] if dataset is None else extreme_values(dataset)
                return Evaluation({}, [*wrong, *cause])
            log_z = result.value if log_z is None else log_z
        if log_z is None:
            notice = (
                "no exact evaluation: quadrature works in up to "
                f"{_MAX_GRID_DIMENSIONS} dimensions, the data have {d}; choose evaluation=ais"
            )
            return Evaluation({}, [notice])
        metrics: dict[str, Metric] = {"log_z": log_z + units.log_volume}
        warnings: list[str] = []
        if dataset is None:
            return Evaluation(metrics, warnings)
        log_p = log_density(reduced, units.to_standard(dataset.holdout), log_z + units.log_volume)
        log_p = log_p + units.log_slope(dataset.holdout)
        nll, nll_se = mean_nll(log_p)
        metrics |= _nll_metrics(nll, nll_se)
        if dataset.truth is None:
            return Evaluation(metrics, warnings)
        difference = dataset.truth.log_prob(dataset.holdout) - log_p
        if result is None:
            failed = "the model's own log_z is wrong; correct the model"
            metrics["kl"], metrics["kl_se"] = mean_nll(-difference)
        else:
            failed = "log Z is wrong; raise evaluation.resolution"
            on_grid = _Model(reduced, result._replace(value=log_z), units)
            exact_metrics, unresolved = _truth_metrics(
                on_grid, inputs.region, dataset.truth, self.tolerance
            )
            metrics |= exact_metrics
            warnings += unresolved
            if isinstance(kl := metrics.get("kl"), float) and kl < -self.tolerance:
                del metrics["kl"]
                warnings.append(
                    f"no KL: its quadrature gives {kl:.4f}, and a KL is at least 0; the model is "
                    "finer than the grid of log Z: raise evaluation.resolution"
                )
        metrics["log_density_mse"] = float(difference.square().mean())
        checked, below = check_entropy_bound(metrics, dataset.truth.entropy, nll_se, failed)
        apart = [] if result is None else _disagreement(checked, nll_se, self.tolerance)
        return Evaluation(checked, [*warnings, *below, *apart])

    def integrate(self, reduced: Callable[[Tensor], Tensor], inputs: EvaluationInput) -> LogZ:
        """log Z of standardized points on the grid, or on a tree of boxes if the grid does not
        resolve it or does not hold its mass; `reduced` is E / T."""
        d, dataset = len(inputs.region.low), inputs.dataset
        assert isinstance(inputs.support, Continuous)
        box = inputs.support.integration_box(inputs.region, self.margin)
        cells = self.cells_per_axis(d)
        result = integrate_log_z(reduced, box, cells, self.tolerance, limit=_MAX_GRID_ERROR)
        points = torch.empty(0, d, dtype=torch.float64)
        if dataset is not None:
            points = inputs.standardization.to_standard(dataset.train[:_N_SEEDS]).flatten(1)
        result = check_points(reduced, result, points)
        if result.is_known(self.tolerance):
            return result
        return refine_log_z(reduced, result, points, self.tolerance)

    def warnings(self, result: LogZ, known: float | None) -> list[str]:
        """Warnings about the error of log Z, also by comparison with that of the model itself."""
        messages = []
        if not result.resolution_error <= self.tolerance:
            messages.append(
                f"{LOG_Z_LEFT_OUT}: on the grid half the resolution differs by "
                f"{result.resolution_error:.2g} nats, and a tree of boxes does not reach "
                "evaluation.tolerance either; raise evaluation.resolution"
            )
        if not result.outside <= self.tolerance:
            messages.append(
                f"{LOG_Z_LEFT_OUT}: {result.outside:.1%} of the mass is outside of the box; "
                "set model.base_std, or train longer"
            )
        apart = 0.0 if known is None else abs(known - result.value)
        if not messages and not apart <= _MAX_TOLERANCES * self.tolerance:
            messages.append(
                f"{LOG_Z_LEFT_OUT}: it is {known:.4f} by the model's own log_z and "
                f"{result.value:.4f} by quadrature, and one is wrong; raise evaluation.resolution, "
                "or correct the model"
            )
        return messages


def _evaluate_states(inputs: EvaluationInput) -> Evaluation:
    """The exact metrics of a model of binary states, with log Z by the sum over all of them or, of
    more than 22 sites, from the energy itself."""
    d, reduced, dataset = len(inputs.region.low), inputs.reduced_energy(), inputs.dataset
    log_z = model_log_z(float64_copy(inputs.energy).cpu(), inputs.temperature)
    metrics: dict[str, Metric] = {}
    all_energies, states = None, len(getattr(inputs.support, "alphabet", "01"))
    if states**d <= MAX_STATES:
        all_energies = over_all_states(reduced, d, states)
        found = float((-all_energies).logsumexp(0))
        if log_z is not None and not abs(found - log_z) <= _MAX_STATE_ERROR:
            warning = (
                f"{LOG_Z_LEFT_OUT}: it is {log_z:.6f} by the model's own log_z and {found:.6f} by "
                "the sum over all states: correct the model"
            )
            return Evaluation({}, [warning])
        log_z = found
        p = torch.softmax(-all_energies, 0)
        metrics["model_entropy"] = log_z + float(p @ all_energies)
    if log_z is None:
        notice = (
            "no exact evaluation: sums over states take up to "
            f"{int(math.log(MAX_STATES, states) + 1e-9)} sites, the data have "
            f"{d}; choose evaluation=ais_states"
        )
        return Evaluation({}, [notice])
    metrics["log_z"] = log_z
    if dataset is None:
        return Evaluation(metrics, [])
    log_p = log_density(reduced, dataset.holdout.flatten(1), log_z)
    nll, nll_se = mean_nll(log_p)
    metrics |= _nll_metrics(nll, nll_se) | {"log_likelihood_total": float(log_p.sum())}
    if dataset.truth is None:
        return Evaluation(metrics, [])
    shape, truth = dataset.holdout.shape[1:], dataset.truth
    if all_energies is not None:
        true = over_all_states(lambda x: truth.log_prob(x.view(-1, *shape)), d, states)
        terms = true.exp() * (true + all_energies + log_z)
        metrics["kl"] = float(torch.where(true > -math.inf, terms, 0.0).sum())
    failed = "the model's log_z is wrong; correct the model"
    return check_entropy_bound(metrics, truth.entropy, nll_se, failed)


_MAX_STATE_ERROR = 1e-6  # in nats, of the model's own log Z

LOG_Z_LEFT_OUT = "log Z is uncertain, and it and NLL and KL are left out"


def log_density(reduced: Callable[[Tensor], Tensor], u: Tensor, log_z: float) -> Tensor:
    """log p(u) = -E(u) / T - log Z of float64 points u, (n, *event) -> (n,); `reduced` is E / T."""
    with torch.no_grad():
        return -in_chunks(reduced, u, CHUNK) - log_z


def mean_nll(log_p: Tensor) -> tuple[float, float]:
    """NLL in nats of independent points, from their log p, (n,), and its standard error,
    std(log p) / sqrt(n); the error of a single point is infinite.
    """
    error = float(log_p.std()) / math.sqrt(len(log_p)) if len(log_p) > 1 else math.inf
    return -float(log_p.mean()), error


def _nll_metrics(nll: float, nll_se: float) -> dict[str, Metric]:
    """`nll` and, where it is known, `nll_se`."""
    metrics: dict[str, Metric] = {"nll": nll}
    return metrics if nll_se == math.inf else metrics | {"nll_se": nll_se}


class _Model(NamedTuple):
    """A model on the points of its log Z."""

    reduced: Callable[[Tensor], Tensor]
    """E / T of standardized points, float64."""
    log_z: LogZ
    units: Standardization

    def to_data(self, u: Tensor) -> Tensor:
        """Flattened standardized points, (n, d) -> (n, *event), in the data's units."""
        return self.units.to_data(u.view(-1, *self.units.shift.shape))

    def linear_log_prob(self, truth: Density, x: Tensor) -> Tensor:
        """log p of the truth as a density of t(x), which is that of x where there are no bounds, at
        points in the data's units, (n,)."""
        return in_chunks(truth.log_prob, x, 65_536) - self.units.log_slope(x)

    @property
    def log_q(self) -> Tensor:
        """log p of the points of the grid as a density of t(x), (n,)."""
        return -self.log_z.grid.energy - self.log_z.value - self.units.log_volume


class _TruthPoints(NamedTuple):
    """Points that resolve the true density, for sums in the place of its integrals."""

    x: Tensor
    """(n, *event), in the data's units."""
    p: Tensor
    """(n,), true mass of each point; their sum is 1."""
    kl: float


def _truth_metrics(model: _Model, region: Region, truth: Density, tolerance: float) -> Evaluation:
    """kl and, where modes are known, mode_weights and mode_kl. kl and mode_kl are left out, with a
    warning, if neither the grid of log Z nor the adaptive rule resolves the true density; mode_kl
    and mode_weights if the points do not resolve a model that knows its log Z itself."""
    x, points, warnings = model.to_data(model.log_z.points), None, []
    if model.log_z.tree is None:
        points = _truth_on_grid(x, model, truth, tolerance)
    if points is None:
        points, warnings = _truth_on_boxes(model, region, truth, tolerance)
    metrics: dict[str, Metric] = {} if points is None else {"kl": points.kl}
    if truth.modes is not None and model.log_z.is_known(tolerance):
        own = mode_masses(x, model.log_z.masses, truth.modes)
        metrics["mode_weights"] = own.tolist()
        if points is not None:
            metrics["mode_kl"] = mass_kl(mode_masses(points.x, points.p, truth.modes), own)
    return Evaluation(metrics, warnings)


def _truth_on_grid(
    x: Tensor, model: _Model, truth: Density, tolerance: float
) -> _TruthPoints | None:
    """The points of the grid; None where it misses a part of the true density or is too coarse for
    it. x are the points in the data's units.

    The mass of the truth on the grid has to be 1, and KL the same on coarser grids: every second
    point in turns, and every second plane across each axis, from the first and from the second on.
    Mass that is missing counts as in the adaptive rule, times six standard deviations of
    log p - log q.
    """
    grid, volume, log_q = model.log_z.grid, model.units.log_volume, model.log_q
    log_p = model.linear_log_prob(truth, x)

    if truth.modes is not None:
        u = model.units.to_standard(truth.modes.centres.to(x)).flatten(1)
        if ((u < grid.points.amin(0)) | (u > grid.points.amax(0))).any():
            return None

    def kl(rows: Tensor | slice, log_cell: float) -> tuple[Tensor, Tensor]:
        p = torch.softmax(log_p[rows], 0)
        terms = torch.where(p > 0, p * (p.log() - log_cell - volume - log_q[rows]), 0.0)
        return p, terms.sum()

    p, value = kl(slice(None), grid.log_cell)
    if value == math.inf:  # the model has no mass at a point of the truth: so on any grid
        return _TruthPoints(x, p, math.inf)
    spread = torch.where(p > 0, p * (log_p - log_q - value).square(), 0.0).sum().sqrt()
    log_mass = float(torch.logsumexp(log_p, 0)) + grid.log_cell + volume
    missing = abs(log_mass) * max(1.0, 6 * float(spread))
    d, n = grid.points.shape[1], torch.arange(grid.n_per_axis)
    odd = torch.cartesian_prod(*[n] * d).view(-1, d) % 2 == 1
    halves = [odd.sum(1) % 2 == 0, *(half for axis in odd.T for half in (axis, ~axis))]
    log_cell = grid.log_cell + math.log(2)
    resolved = missing <= tolerance and all(
        abs(float(kl(half, log_cell)[1] - value)) <= tolerance for half in halves
    )
    return _TruthPoints(x, p, float(value)) if resolved else None


def _truth_on_boxes(
    model: _Model, region: Region, truth: Density, tolerance: float
) -> tuple[_TruthPoints | None, list[str]]:
    """The points of the adaptive rule; None, and a warning, where its error is above the tolerance.
    The region contains the standardized data.
    """
    seeds = truth.sample(_TRUTH_SAMPLES, torch.Generator().manual_seed(0))
    if truth.modes is not None:
        seeds = torch.cat([seeds, truth.modes.centres.to(seeds)])
    u = model.units.to_standard(seeds).flatten(1)
    own = Region(u.amin(0), u.amax(0)).grown(_TRUTH_REGION_FACTOR)
    box = Region(torch.minimum(region.low, own.low), torch.maximum(region.high, own.high))

    def log_p(u: Tensor) -> Tensor:
        return model.linear_log_prob(truth, model.to_data(u)) + model.units.log_volume

    def log_ratio(u: Tensor, log_p: Tensor) -> Tensor:
        return log_p - log_density(model.reduced, u, model.log_z.value)

    found = expectation(log_p, log_ratio, box, u, tolerance)
    if found.error <= tolerance:
        return _TruthPoints(model.to_data(found.points), found.masses, found.value), []
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
        "density or the entropy of the truth is wrong, or the held-out points are not from it or "
        "miss a rare part of it"
    ]


_MAX_BELOW_ENTROPY_SE = 4.0
M = TypeVar("M", bound=Metric)

# What depends on an estimate of log Z, also where several evaluators give it.
_OF_LOG_Z = (
    "log_z", "log_z_se", "log_z_lower", "log_z_upper", "nll", "nll_se", "nll_lower", "nll_upper",
    "log_likelihood_total", "model_entropy", "regret", "kl", "kl_se", "log_density_mse",
    "mode_weights", "mode_kl",
)  # fmt: skip


def without_log_z(metrics: Mapping[str, M]) -> dict[str, M]:
    """The metrics that do not depend on an estimate of log Z."""
    return {k: v for k, v in metrics.items() if k not in _OF_LOG_Z}


def check_entropy_bound(
    metrics: Mapping[str, Metric], entropy: float, error: float, what: str
) -> Evaluation:
    """The metrics with `entropy` and `regret`; without those that depend on log Z, and with a
    warning, if the NLL is below the entropy of the true density by more than 4 standard errors;
    `what` is what failed and which option to change.
    """
    nll = metrics["nll"]
    assert isinstance(nll, float)
    full = {**metrics, "entropy": entropy, "regret": nll - entropy}
    if not nll < entropy - _MAX_BELOW_ENTROPY_SE * error:
        return Evaluation(full, [])
    warning = (
        f"no NLL or KL: the NLL of {nll:.4f} is {entropy - nll:.2g} nats below the entropy of the "
        f"data, which is impossible: {what}"
    )
    return Evaluation(without_log_z(full), [warning])
