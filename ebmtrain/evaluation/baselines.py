"""NLL of density estimators from scikit-learn on the same data, for comparison with the model."""

from __future__ import annotations

import itertools
import math
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.errors import DataError
from ebmtrain.evaluation.exact import log_density
from ebmtrain.evaluation.protocol import (
    ChecksDimensions,
    Evaluation,
    EvaluationInput,
    Evaluator,
    Metric,
)
from ebmtrain.runtime.optional import import_sklearn
from ebmtrain.types import Dataset, SmallCount, Standardization

_COVARIANCES = ("full", "tied", "diag", "spherical")


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """An evaluation of the model, and the NLL of three scikit-learn estimators on the same split.

    All estimators are fitted to the training points only, mapped to R^d where they have bounds,
    once in standardized and once in whitened units, and the units that suit the training points
    better are used:

    - KernelDensity with Gaussian kernels: bandwidth and units of the largest log-likelihood in
      cross-validation;
    - GaussianMixture: number of components, kind of covariance and units of the smallest BIC;
    - one Gaussian of full covariance, for which the units make no difference.

    peer_nll_gaussian, peer_nll_kde, peer_nll_gmm
                              NLL of the held-out points, in nats and in the data's units
    gain_over_gaussian, ...   NLL of the estimator minus that of the model
    gain_over_kde_se, ...     standard error of the gain: of the mean of the differences point by
                              point, and of the model's log Z

    The gains are present if the evaluation of the model gives log_z. For tables of up to some
    thousand rows: the cost of kernel density estimation grows with the square of their number.

    Args:
        ours: the evaluation of the model; its period is that of the whole.
        components: largest number of components of the mixture.
        fewest: smallest number of components; fewest = components fixes the number.
        bandwidths: number of bandwidths, geometrically spaced from 0.05 to 3 standard deviations.
        folds: of the cross-validation.

    Raises:
        ConfigError: scikit-learn is not installed.
        ValueError: fewest > components.
    """

    at_start: ClassVar[bool] = False
    ours: Evaluator
    components: SmallCount = 10
    fewest: SmallCount = 1
    bandwidths: SmallCount = 40
    folds: SmallCount = 5
    _cache: WeakKeyDictionary[Dataset, dict[str, Tensor]] = field(
        init=False, repr=False, compare=False, default_factory=WeakKeyDictionary
    )

    def __post_init__(self) -> None:
        import_sklearn("mixture", "evaluation=peers")
        if self.fewest > self.components:
            raise ValueError(
                f"evaluation.fewest={self.fewest} must be at most evaluation.components="
                f"{self.components}: lower it"
            )

    @property
    def every(self) -> int:
        """Updates between two evaluations."""
        return self.ours.every

    def check_dimensions(self, d: int) -> None:
        if isinstance(self.ours, ChecksDimensions):
            self.ours.check_dimensions(d)

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        metrics, notices = self.ours(inputs)
        dataset = inputs.dataset
        if dataset is None:
            return Evaluation(metrics, notices)
        if dataset not in self._cache:  # fitted once, since the data do not change
            self._cache[dataset] = self.fit_baselines(dataset)
        baselines = self._cache[dataset]
        result: dict[str, Metric] = {**metrics}
        for name, log_p in baselines.items():
            result[f"peer_nll_{name}"] = -float(log_p.mean())
        log_z, log_z_se = metrics.get("log_z"), metrics.get("log_z_se", 0.0)
        if isinstance(log_z, float) and isinstance(log_z_se, float):
            u = inputs.standardization.to_standard(dataset.holdout)
            model = log_density(inputs.reduced_energy(), u.flatten(1), log_z)
            model = model + inputs.standardization.log_slope(dataset.holdout)
            for name, log_p in baselines.items():
                gain = model - log_p
                result[f"gain_over_{name}"] = float(gain.mean())
                error = float(gain.std() / math.sqrt(len(gain)))
                result[f"gain_over_{name}_se"] = math.hypot(error, log_z_se)
        return Evaluation(result, notices)

    def fit_baselines(self, dataset: Dataset) -> dict[str, Tensor]:
        """log p of the held-out points by each estimator, (m,) each, in the data's units."""
        bounded = dataset.standardization
        train, holdout = (bounded.to_linear(x).flatten(1) for x in (dataset.train, dataset.holdout))
        units = [fit_standardization(train, True)]
        with suppress(DataError):  # linearly dependent columns cannot be whitened
            units.append(fit_standardization(train, "whiten"))
        gaussian = import_sklearn("mixture", "evaluation=peers").GaussianMixture(1)
        gaussian.fit(units[0].to_standard(train).numpy())
        fits = {
            "gaussian": _baseline_log_p(gaussian, units[0], holdout),
            "kde": self._fit_kernels(train, holdout, units),
            "gmm": self._fit_mixture(train, holdout, units),
        }
        slope = bounded.log_slope(dataset.holdout)
        return {name: log_p + slope for name, log_p in fits.items()}

    def _fit_kernels(self, train: Tensor, holdout: Tensor, units: list[Standardization]) -> Tensor:
        """log p of the held-out points by KernelDensity, (m,)."""
        estimate = import_sklearn("neighbors", "evaluation=peers").KernelDensity
        folds = import_sklearn("model_selection", "evaluation=peers").KFold(
            min(self.folds, len(train)), shuffle=True, random_state=0
        )
        widths = torch.logspace(math.log10(0.05), math.log10(3.0), self.bandwidths).tolist()

        def validation_score(choice: tuple[Standardization, float]) -> float:
            unit, width = choice
            u = unit.to_standard(train).numpy()
            kernel = estimate(bandwidth=width)
            scores = (kernel.fit(u[rows]).score(u[others]) for rows, others in folds.split(u))
            return sum(scores) / len(u) - unit.log_volume

        unit, width = max(itertools.product(units, widths), key=validation_score)
        best = estimate(bandwidth=width).fit(unit.to_standard(train).numpy())
        return _baseline_log_p(best, unit, holdout)

    def _fit_mixture(self, train: Tensor, holdout: Tensor, units: list[Standardization]) -> Tensor:
        """log p of the held-out points by GaussianMixture, (m,)."""
        mixtures = import_sklearn("mixture", "evaluation=peers").GaussianMixture
        not_converged = import_sklearn("exceptions", "evaluation=peers").ConvergenceWarning
        fits = []
        for unit, covariance in itertools.product(units, _COVARIANCES):
            u = unit.to_standard(train).numpy()
            largest = min(self.components, len(u))
            for n in range(min(self.fewest, largest), largest + 1):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", not_converged)
                    fit = mixtures(n, covariance_type=covariance, n_init=3, random_state=0).fit(u)
                fits.append((fit.bic(u) + 2 * len(u) * unit.log_volume, len(fits), fit, unit))
        _, _, best, unit = min(fits)
        return _baseline_log_p(best, unit, holdout)


def _baseline_log_p(estimate, unit: Standardization, x: Tensor) -> Tensor:
    """log p of points in the data's units, (n,), by a scikit-learn estimator that is fitted in the
    units `unit`.
    """
    return torch.from_numpy(estimate.score_samples(unit.to_standard(x).numpy())) - unit.log_volume
