"""AUROC of a class left out, by an energy and by scikit-learn's detectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import KernelDensity
from torch import Tensor, nn

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.datasets.split import random_split
from ebmtrain.evaluation.estimators.threshold import threshold
from ebmtrain.evaluation.ood_detection import (
    DETECTORS,
    OutlierBaselines,
    _detector_aurocs,
    detectors,
)
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput
from ebmtrain.samplers.mala import Mala


class Round(nn.Module):
    """E(u) = ||u||^2 / 2."""

    def forward(self, u: Tensor) -> Tensor:
        return u.square().sum(1) / 2


def unused_trace(*_):
    raise AssertionError


def table(far: float, scale: float = 1.0) -> Points:
    """Two classes in two dimensions; the second one is separated."""
    x = torch.randn(300, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(300) % 3 // 2
    x[labels == 1] += far
    return random_split(
        scale * x,
        holdout=0.3,
        standardize=True,
        seed=1,
        labels=labels,
        classes=("a", "b"),
        without=1,
    )


def evaluate(dataset: Points, **options: Any) -> Evaluation:
    u = dataset.standardization.to_standard(dataset.train)
    inputs = EvaluationInput(
        energy=Round(), temperature=1.0, region=DataSpec.of(dataset).region,
        standardization=dataset.standardization, dataset=dataset, draw=lambda n: u[:n],
        generator=lambda _: torch.Generator(),
        sampler=Mala(step_size=0.1), method={}, trace=unused_trace,
    )  # fmt: skip
    return OutlierBaselines(every=1, **options)(inputs)


def test_auroc_of_held_out_points_against_the_class():
    dataset = table(1.0)
    found = evaluate(dataset).metrics
    assert dataset.anomalies is not None
    u = dataset.standardization.to_standard(torch.cat([dataset.holdout, dataset.anomalies]))
    unusual = torch.arange(len(u)) >= len(dataset.holdout)
    assert found["auroc"] == pytest.approx(roc_auc_score(unusual, Round()(u)))
    assert 0 < found["auroc_se"] < 0.06
    scores = Round()(u)
    limit = scores[~unusual].sort().values[-1 - len(dataset.holdout) // 20]
    assert found["fpr95"] == pytest.approx(float((scores[unusual] <= limit).double().mean()))
    assert 0 < found["fpr95"] < 1
    # Kernel estimates of the training points, in the same units.
    train = dataset.standardization.to_standard(dataset.train)
    distances = torch.cdist(train, train).fill_diagonal_(torch.inf).amin(1)
    widths = [float(distances.median()) * w for w in (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)]
    fits = [KernelDensity(bandwidth=w).fit(train.numpy()) for w in widths]
    right = [roc_auc_score(unusual, -fit.score_samples(u.numpy())) for fit in fits]
    assert found["auroc_kde"] == pytest.approx(right)


def test_aupr_recall_and_intervals_are_those_of_the_energy():
    dataset = table(1.0)
    found: dict[str, Any] = dict(evaluate(dataset, detectors=False).metrics)
    assert not any(name.startswith(f"auroc_{peer}") for name in found for peer in DETECTORS)
    assert dataset.anomalies is not None
    to_standard = dataset.standardization.to_standard
    inliers, outliers = (Round()(to_standard(x)) for x in (dataset.holdout, dataset.anomalies))
    unusual = torch.arange(len(inliers) + len(outliers)) >= len(inliers)
    right = average_precision_score(unusual, torch.cat([inliers, outliers]))
    assert found["aupr"] == pytest.approx(right)
    assert found["recall"] == float((outliers > threshold(inliers, 0.05)).double().mean())
    width = found["auroc_upper"] - found["auroc_lower"]
    # Of 200 samples a quantile of 2.5 % is known to a fifth of its distance from the middle.
    assert width == pytest.approx(2 * 1.96 * found["auroc_se"], rel=0.25)
    for name in ("auroc", "aupr"):
        assert found[f"{name}_lower"] < found[name] < found[f"{name}_upper"]
    few = replace(dataset, holdout=dataset.holdout[:18])
    assert "recall" not in evaluate(few, detectors=False).metrics


def test_all_detect_distant_points_and_none_equal_ones():
    far, near = (evaluate(table(x)).metrics for x in (20.0, 0.0))
    for name in ("auroc", *(f"auroc_{peer}" for peer in DETECTORS)):
        assert np.max(far[name]) == 1
        assert np.abs(np.subtract(near[name], 0.5)).max() < 0.15


def test_detectors_do_not_depend_on_units():
    one, other = (evaluate(table(1.0, scale)).metrics for scale in (1.0, 1e3))
    for name, value in one.items():
        assert value == pytest.approx(other[name], abs=0.01)


def test_duplicate_points_have_a_positive_bandwidth():
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = _detector_aurocs(x.repeat(2, 1), x[:5], x[5:10] + 30)
    assert max(found["auroc_lof"]) > 0.5
    assert {name for name, _ in detectors(x)} == set(DETECTORS)
