"""Thresholds of anomaly scores at a false-positive rate."""

from __future__ import annotations

import math

from torch import Tensor


def fewest_inliers(rate: float) -> int:
    """The smallest number of inliers that gives a threshold at this false-positive rate."""
    return math.ceil(1 / rate - 1e-9) - 1


def threshold(inliers: Tensor, rate: float) -> float:
    """The score that a new inlier exceeds with a probability of at most `rate`.

    The k-th smallest of n scores, k = ceil((n + 1) (1 - rate)) >= 1: split conformal prediction
    (Vovk, Gammerman & Shafer, 2005). The probability is over the inliers too, which are
    exchangeable with the new one, and at least rate - 1 / (n + 1) if no scores are equal.

    Args:
        inliers: scores, (n,), n >= `fewest_inliers(rate)`; high for anomalies.
        rate: in (0, 1).

    Raises:
        ValueError: too few inliers.
    """
    k = max(math.ceil((len(inliers) + 1) * (1 - rate) - 1e-9), 1)
    if k > len(inliers):
        raise ValueError(f"{len(inliers)} inliers are fewer than {fewest_inliers(rate)}")
    return float(inliers.double().sort().values[k - 1])


def false_positive_rate(inliers: Tensor, outliers: Tensor, recall: float = 0.95) -> float:
    """FPR95 of the literature on out-of-distribution detection (Hendrycks & Gimpel, ICLR 2017): the
    fraction of outliers that are accepted where a fraction `recall` of the inliers are.

    Args:
        inliers, outliers: scores, (m,) and (n,), high for outliers; NaN gives NaN.
    """
    if inliers.isnan().any() or outliers.isnan().any():
        return math.nan
    limit = inliers.double().sort().values[math.ceil(recall * len(inliers) - 1e-9) - 1]
    return float((outliers.double() <= limit).double().mean())
