"""How well one number tells two kinds of points apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def auroc(usual: Tensor, unusual: Tensor) -> tuple[float, float]:
    """P(a < b) + P(a = b) / 2 for scores a of usual points and b of unusual ones, and its standard
    error.

    It is the area under the curve of the share of unusual points that are found against the share
    of usual ones that are mistaken for them: 1/2 by chance, 1 if every unusual point has a higher
    score than every usual one (Mann & Whitney, 1947). The error is that of DeLong et al.
    (Biometrics 44, 1988), and says little of fewer than about ten points of either kind. NaN, both,
    where a score is none: it has no place in the order.

    Args:
        usual: (m,), m >= 1.
        unusual: (n,), n >= 1.
    """
    if usual.isnan().any() or unusual.isnan().any():
        return math.nan, math.nan
    below = _fraction_below(usual, unusual)  # of each unusual point: the usual ones under it
    above = 1 - _fraction_below(unusual, usual)
    variance = sum(float(s.var(correction=1)) / len(s) for s in (below, above) if len(s) > 1)
    return float(below.mean()), math.sqrt(variance)


def _fraction_below(scores: Tensor, limits: Tensor) -> Tensor:
    """Of each limit the share of scores below it, those equal to it counted half."""
    ordered = scores.double().sort().values
    limits = limits.to(ordered)
    under = torch.searchsorted(ordered, limits)
    not_over = torch.searchsorted(ordered, limits, right=True)
    return (under + not_over).double() / (2 * len(ordered))
