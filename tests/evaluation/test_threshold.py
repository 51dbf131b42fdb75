"""Thresholds have the false-positive rate that they state."""

from __future__ import annotations

import math

import pytest
import torch

from ebmtrain.evaluation.estimators.threshold import (
    false_positive_rate,
    fewest_inliers,
    threshold,
)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (30, 0.1), (99, 0.25), (7, 0.5)])
def test_a_new_inlier_exceeds_the_threshold_with_the_stated_probability(n, rate):
    """Within 4 standard errors of 1 - k / (n + 1), which is at most the rate, over independent
    draws of all inliers."""
    scores = torch.randn(20_000, n + 1, generator=torch.Generator().manual_seed(0))
    above = torch.tensor([float(s[-1] > threshold(s[:-1], rate)) for s in scores])
    expected = 1 - math.ceil((n + 1) * (1 - rate) - 1e-9) / (n + 1)
    assert rate - 1 / (n + 1) < expected <= rate + 1e-9
    assert abs(above.mean() - expected) < 4 * above.std() / len(above) ** 0.5


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.3, 0.5])
def test_too_few_inliers_are_refused(rate):
    n = fewest_inliers(rate)
    threshold(torch.arange(n), rate)
    with pytest.raises(ValueError, match="fewer than"):
        threshold(torch.arange(n - 1), rate)


@pytest.mark.parametrize("rate", [0.999, 1 - 1e-11, 1 - 1e-15])
def test_a_rate_of_almost_one_gives_the_smallest_score(rate):
    assert threshold(torch.arange(100.0), rate) == 0


def test_fpr95():
    inliers = torch.arange(1.0, 101.0)  # 95 of them are at most 95
    outliers = torch.tensor([94.0, 95.0, 96.0, 200.0])
    assert false_positive_rate(inliers, outliers) == 0.5
    assert false_positive_rate(inliers, outliers, 0.93) == 0.0
    assert math.isnan(false_positive_rate(inliers, torch.tensor([math.nan])))
