"""Detection of a class that training left out, by the energy and by scikit-learn detectors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Generator, Tensor

from ebmtrain.evaluation.estimators.auroc import auroc
from ebmtrain.evaluation.estimators.threshold import (
    false_positive_rate,
    fewest_inliers,
    threshold,
)
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Metric, float64_copy
from ebmtrain.runtime.optional import import_sklearn
from ebmtrain.score import in_chunks
from ebmtrain.types import Dataset, HasAnomalies, OpenUnit, SmallCount, WholeNumber

DETECTORS = {
    "kde": "KernelDensity",
    "lof": "LocalOutlierFactor",
    "svm": "OneClassSVM",
    "forest": "IsolationForest",
}
_BANDWIDTHS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)  # in units of r, see `detectors`
_NEIGHBOURS = (3, 5, 10, 20)
GAMMAS, NUS = (1.0, 2.0, 4.0, 8.0), (0.01, 0.1, 0.5)  # gamma in units of r^-2, nu dimensionless
TREES = 300


@dataclass(frozen=True, kw_only=True)
class OutlierBaselines:
    """AUROC of the energy and of scikit-learn detectors, between held-out points and the class that
    `dataset.without` leaves out. The detectors are fitted to the same training points and score the
    same points, in the units that the model sees.

    auroc, auroc_se    of the energy, see `auroc`; over all points of the class
    aupr               of the energy: average precision, the anomalies as positives; by chance
                       their share of the points
    auroc_lower, auroc_upper, aupr_lower, aupr_upper   ends of the 95 % intervals by bootstrap of
                       held-out points and anomalies
    fpr95              of the energy, see `false_positive_rate`
    recall             of the energy: the fraction of anomalies above its `threshold` at the
                       false-positive rate `fpr`, if there are held-out points enough for it
    auroc_kde          of KernelDensity, at each bandwidth
    auroc_lof          of LocalOutlierFactor, at each number of neighbours
    auroc_svm          of OneClassSVM, at all pairs of GAMMAS and NUS
    auroc_forest       of IsolationForest with TREES trees

    For each detector the AUROC is given at all of its settings, and none is selected: the largest
    is a choice in hindsight, in favour of the detector. For data of up to some thousand points.

    Args:
        every: updates between two evaluations, see `Evaluator`.
        fpr: false-positive rate of `recall`.
        bootstrap: bootstrap samples of the intervals.
        detectors: whether to fit the detectors.

    Raises:
        ConfigError: scikit-learn is not installed.
    """

    at_start: ClassVar[bool] = False
    every: WholeNumber
    fpr: OpenUnit = 0.05
    bootstrap: SmallCount = 200
    detectors: bool = True
    _cache: WeakKeyDictionary[Dataset, dict[str, list[float]]] = field(
        init=False, repr=False, compare=False, default_factory=WeakKeyDictionary
    )

    def __post_init__(self) -> None:
        import_sklearn("neighbors", "evaluation=anomalies")

    @staticmethod
    def conflicts(config: Mapping[str, Any]) -> list[str]:
        """What is wrong with a configuration for this evaluation, each with its remedy."""
        dataset, train = config["dataset"], config["train"]
        given = (dataset.get("without"), dataset.get("label"))
        if any(x is not None for x in given) or train.get("leave_one_out"):
            return []
        return [
            "evaluation=anomalies needs a class that is left out of training, and none is: give "
            "dataset=digits dataset.without=3, dataset=file dataset.label=COLUMN of 0 and 1, or "
            "train.leave_one_out=true for each in turn"
        ]

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        dataset = inputs.dataset
        anomalies = dataset.anomalies if isinstance(dataset, HasAnomalies) else None
        if dataset is None or anomalies is None:
            return Evaluation({}, [])
        to_standard = inputs.standardization.to_standard
        energy = float64_copy(inputs.energy).cpu()
        with torch.no_grad():
            inliers, outliers = (
                in_chunks(energy, to_standard(x), 1024)
                - inputs.temperature * inputs.standardization.log_slope(x)
                for x in (dataset.holdout, anomalies)
            )
        value, error = auroc(inliers, outliers)
        metrics: dict[str, Metric] = {"auroc": value, "auroc_se": error}
        metrics |= {"fpr95": false_positive_rate(inliers, outliers)}
        metrics |= _intervals(inliers, outliers, self.bootstrap, inputs.cpu_generator("anomalies"))
        if len(inliers) >= fewest_inliers(self.fpr):
            above = outliers > threshold(inliers, self.fpr)
            metrics["recall"] = float(above.double().mean())
        if not self.detectors:
            return Evaluation(metrics, [])
        if dataset not in self._cache:  # fitted once, since the data do not change
            points = (dataset.train, dataset.holdout, anomalies)
            self._cache[dataset] = _detector_aurocs(*(to_standard(x).flatten(1) for x in points))
        return Evaluation({**metrics, **self._cache[dataset]}, [])


def _intervals(
    inliers: Tensor, outliers: Tensor, count: int, generator: Generator
) -> dict[str, Metric]:
    """aupr, and the 95 % intervals of AUROC and AUPR, by `count` bootstrap samples of both kinds of
    points."""
    if not (inliers.isfinite().all() and outliers.isfinite().all()):
        return {}
    metrics = import_sklearn("metrics", "evaluation=anomalies")
    unusual = torch.cat([torch.zeros(len(inliers)), torch.ones(len(outliers))]).numpy()

    def aupr(a: Tensor, b: Tensor) -> float:
        area = metrics.average_precision_score(unusual, torch.cat([a, b]).numpy())
        return min(float(area), 1.0)  # the sum of its terms is rounded

    def resample(x: Tensor) -> Tensor:
        return x[torch.randint(len(x), (len(x),), generator=generator)]

    pairs = [(resample(inliers), resample(outliers)) for _ in range(count)]
    each = torch.tensor([(auroc(*pair)[0], aupr(*pair)) for pair in pairs], dtype=torch.float64)
    low, high = each.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), 0).tolist()
    found = {"aupr": aupr(inliers, outliers)}
    found |= {"auroc_lower": low[0], "auroc_upper": high[0]}
    return {**found, "aupr_lower": low[1], "aupr_upper": high[1]}


def _detector_aurocs(train: Tensor, holdout: Tensor, outliers: Tensor) -> dict[str, list[float]]:
    """AUROC between held-out points and outliers, (n, d) each, at each setting of each detector, by
    metric name `auroc_<detector>`.
    """
    aurocs: dict[str, list[float]] = {f"auroc_{name}": [] for name in DETECTORS}
    for name, detector in detectors(train):
        fitted = detector.fit(train.numpy())
        scores = (-torch.from_numpy(fitted.score_samples(x.numpy())) for x in (holdout, outliers))
        aurocs[f"auroc_{name}"].append(auroc(*scores)[0])
    return aurocs


def detectors(train: Tensor) -> Iterator[tuple[str, Any]]:
    """(name, unfitted detector) for each detector and each of its settings. Lengths are in units of
    r, the median distance from a training point, (n, d), to its nearest neighbour.
    """
    neighbours, svm, ensemble = (
        import_sklearn(module, "evaluation=anomalies")
        for module in ("neighbors", "svm", "ensemble")
    )
    distances = torch.cdist(train, train).fill_diagonal_(torch.inf)
    r = max(float(distances.amin(1).median()), 1e-6)  # 0 if most points are duplicates
    for width in _BANDWIDTHS:
        yield "kde", neighbours.KernelDensity(bandwidth=r * width)
    for k in _NEIGHBOURS:
        yield "lof", neighbours.LocalOutlierFactor(n_neighbors=k, novelty=True)
    for gamma, nu in itertools.product(GAMMAS, NUS):
        yield "svm", svm.OneClassSVM(gamma=gamma / r**2, nu=nu)
    yield "forest", ensemble.IsolationForest(n_estimators=TREES, random_state=0)
