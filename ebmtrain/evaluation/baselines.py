"""The NLL of a Gaussian, a kernel density estimate and a Gaussian mixture, beside the model's."""

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
    Evaluation,
    EvaluationInput,
    Evaluator,
    Metric,
    float64_copy,
)
from ebmtrain.runtime.optional import import_sklearn
from ebmtrain.types import Count, Dataset, Standardization

_COVARIANCES = ("full", "tied", "diag", "spherical")


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """An evaluation of the model, and what scikit-learn's estimates reach on the same split.

    All peers are fitted to the training points alone, once standardized and once whitened, and
    what suits the training points better is taken, so that units are nobody's advantage:
    KernelDensity (Gaussian kernels) with the bandwidth, and the units, of the best log-likelihood
    in cross-validation; GaussianMixture with the number of components, the kind of covariance and
    the units of the least BIC; one Gaussian of any covariance, for which units are the same.

    peer_nll_gaussian, peer_nll_kde, peer_nll_gmm
                              NLL of the held-out points, in nats and in the data's units
    gain_over_gaussian, ...   the peer's NLL minus that of the model
    gain_over_kde_se, ...     its standard error: of the differences, point by point, and of the
                              model's log Z

    The gains are there where the evaluation of the model gives log_z. For tables of up to some
    thousand rows: the time of the kernels grows as the square of their number.

    Args:
        ours: the evaluation of the model; its period is that of the whole.
        components: most that a mixture may have.
        fewest: least that it may have; fewest = components: so many.
        bandwidths: tried, geometrically from 0.05 to 3 standard deviations.
        folds: of the cross-validation.

    Raises:
        ConfigError: scikit-learn is not installed.
    """

    at_start: ClassVar[bool] = False
    ours: Evaluator
    components: Count = 10
    fewest: Count = 1
    bandwidths: Count = 40
    folds: Count = 5
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
        return self.ours.every

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        metrics, said = self.ours(inputs)
        dataset = inputs.dataset
        if dataset is None:
            return Evaluation(metrics, said)
        if dataset not in self._cache:  # the data stay as they are, whatever the model does
            self._cache[dataset] = self.fit_baselines(dataset)
        peers = self._cache[dataset]
        found: dict[str, Metric] = {
            **metrics,
            **{f"peer_nll_{name}": -float(log_p.mean()) for name, log_p in peers.items()},
        }
        log_z, log_z_se = metrics.get("log_z"), metrics.get("log_z_se", 0.0)
        if isinstance(log_z, float) and isinstance(log_z_se, float):
            own = _model_log_p(inputs, dataset, log_z)
            for name, log_p in peers.items():
                gain = own - log_p
                found[f"gain_over_{name}"] = float(gain.mean())
                found[f"gain_over_{name}_se"] = math.hypot(
                    float(gain.std() / math.sqrt(len(gain))), log_z_se
                )
        return Evaluation(found, said)

    def fit_baselines(self, dataset: Dataset) -> dict[str, Tensor]:
        """log p of the held-out points by each peer, (m,)."""
        train, holdout = (x.flatten(1) for x in (dataset.train, dataset.holdout))
        units = [fit_standardization(train, True)]
        with suppress(DataError):  # columns that follow from others
            units.append(fit_standardization(train, "whiten"))
        one = import_sklearn("mixture", "evaluation=peers").GaussianMixture(1)
        return {
            "gaussian": _baseline_log_p(
                one.fit(units[0].to_standard(train).numpy()), units[0], holdout
            ),
            "kde": self.fit_kernel_density(train, holdout, units),
            "gmm": self.fit_mixture(train, holdout, units),
        }

    def fit_kernel_density(
        self, train: Tensor, holdout: Tensor, units: list[Standardization]
    ) -> Tensor:
        estimate = import_sklearn("neighbors", "evaluation=peers").KernelDensity
        folds = import_sklearn("model_selection", "evaluation=peers").KFold(
            min(self.folds, len(train)), shuffle=True, random_state=0
        )
        tried = torch.logspace(math.log10(0.05), math.log10(3.0), self.bandwidths).tolist()

        def validated(choice: tuple[Standardization, float]) -> float:
            unit, width = choice
            u = unit.to_standard(train).numpy()
            scores = [
                estimate(bandwidth=width).fit(u[kept]).score(u[left])
                for kept, left in folds.split(u)
            ]
            return sum(scores) / len(u) - unit.log_volume

        unit, width = max(itertools.product(units, tried), key=validated)
        best = estimate(bandwidth=width).fit(unit.to_standard(train).numpy())
        return _baseline_log_p(best, unit, holdout)

    def fit_mixture(self, train: Tensor, holdout: Tensor, units: list[Standardization]) -> Tensor:
        mixtures = import_sklearn("mixture", "evaluation=peers").GaussianMixture
        unfinished = import_sklearn("exceptions", "evaluation=peers").ConvergenceWarning
        fits = []
        for unit, kind in itertools.product(units, _COVARIANCES):
            u = unit.to_standard(train).numpy()
            most = min(self.components, len(u))
            for n in range(min(self.fewest, most), most + 1):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", unfinished)
                    fit = mixtures(n, covariance_type=kind, n_init=3, random_state=0).fit(u)
                fits.append((fit.bic(u) + 2 * len(u) * unit.log_volume, len(fits), fit, unit))
        _, _, best, unit = min(fits)
        return _baseline_log_p(best, unit, holdout)


def _baseline_log_p(estimate, unit: Standardization, x: Tensor) -> Tensor:
    """log p of points in the data's units, (n,)."""
    return torch.from_numpy(estimate.score_samples(unit.to_standard(x).numpy())) - unit.log_volume


def _model_log_p(inputs: EvaluationInput, dataset: Dataset, log_z: float) -> Tensor:
    """log p of the held-out points by the model, (m,).

    Args:
        log_z: over the data's units.
    """
    energy = float64_copy(inputs.energy).cpu()
    shape = inputs.standardization.shift.shape

    def reduced(u: Tensor) -> Tensor:
        return energy(u.view(-1, *shape)) / inputs.temperature

    return log_density(reduced, inputs.standardization.to_standard(dataset.holdout), log_z)
