"""Area under the ROC curve and its standard error."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def auroc(inliers: Tensor, outliers: Tensor) -> tuple[float, float]:
    """Area under the ROC curve, P(a < b) + P(a = b) / 2 for scores a of inliers and b of outliers,
    and its standard error.

    It is 1/2 by chance and 1 if every outlier has a higher score than every inlier (Mann & Whitney,
    1947). The standard error is that of DeLong et al. (Biometrics 44, 1988), unreliable for fewer
    than about ten points of either kind.

    Args:
        inliers: scores, (m,), m >= 1.
        outliers: scores, (n,), n >= 1.

    Returns:
        (AUROC, standard error); both NaN if a score is NaN.
    """
    if inliers.isnan().any() or outliers.isnan().any():
        return math.nan, math.nan
    below = _fraction_below(inliers, outliers)  # for each outlier the fraction of inliers below
    above = 1 - _fraction_below(outliers, inliers)
    variance = sum(float(s.var(correction=1)) / len(s) for s in (below, above) if len(s) > 1)
    return float(below.mean()), math.sqrt(variance)


def _fraction_below(scores: Tensor, limits: Tensor) -> Tensor:
    """For each limit the fraction of scores below it, with ties counted half."""
    ordered = scores.double().sort().values
    limits = limits.to(ordered).contiguous()
    n_below = torch.searchsorted(ordered, limits)
    n_not_above = torch.searchsorted(ordered, limits, right=True)
    return (n_below + n_not_above).double() / (2 * len(ordered))
