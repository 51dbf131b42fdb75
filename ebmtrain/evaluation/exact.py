"""NLL, KL, regret and mode weights from log Z by quadrature in up to three dimensions, or from an
energy that knows its log Z.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebmtrain.evaluation.estimators.grid_quadrature import CHUNK, LogZ, integrate_log_z
from ebmtrain.evaluation.estimators.modes import mass_kl, mode_masses
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Metric, float64_copy
from ebmtrain.score import in_chunks
from ebmtrain.types import Count, Dataset, Density, Normalised, Positive, Standardization

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
    kl            KL(data || model) = integral of p_true (log p_true - log p), on the same grid;
                  without a grid the mean of log p_true - log p over the held-out points, with its
                  standard error kl_se
    log_density_mse  mean of (log p_true(x) - log p(x))^2 over the held-out points
    mode_weights  mass of the model nearest to each known mode
    mode_kl       KL(true masses || mode_weights), at most kl: the part of kl that is due to wrong
                  weights of the modes

    Args:
        every: updates between two evaluations; the last update always makes one.
        resolution: initial number of cells per axis in two dimensions (64 times as many in one, a
            quarter in three).
        margin: width added to the data's range on each side, as a fraction of it.
        tolerance: largest error of log Z in nats that gives no warning.
    """

    every: Count
    resolution: Count = 256
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
                metrics |= _truth_metrics(result, standardization, dataset.truth)
                error = dataset.truth.log_prob(dataset.holdout) - log_p
                metrics["log_density_mse"] = float(error.square().mean())
                failed = "log Z is wrong; raise evaluation.resolution"
                checked, below = check_entropy_bound(metrics, dataset.truth.entropy, nll_se, failed)
                return Evaluation(checked, warnings + below)
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


def _truth_metrics(result: LogZ, units: Standardization, truth: Density) -> dict[str, Metric]:
    """kl and, where modes are known, mode_weights and mode_kl, on the grid."""
    grid = result.grid
    x = units.to_data(grid.points.view(-1, *units.shift.shape))
    log_p = in_chunks(truth.log_prob, x, 65_536)
    log_q = -grid.energy - result.value - units.log_volume
    # The density is normalised on the grid too: a discontinuity inside a cell is no divergence.
    p = torch.softmax(log_p, 0)
    log_p = p.log() - grid.log_cell - units.log_volume
    terms = torch.where(p > 0, p * (log_p - log_q), 0.0)
    metrics: dict[str, Metric] = {"kl": float(terms.sum())}
    if truth.modes is not None:
        true, own = (mode_masses(x, mass, truth.modes) for mass in (p, torch.softmax(log_q, 0)))
        metrics |= {"mode_weights": own.tolist(), "mode_kl": mass_kl(true, own)}
    return metrics


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
