"""Masses of the modes of a density, and parts of a sample in place of modes that are not known."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ebmtrain.types import Modes

_ROWS = 65_536  # points at once
_MIN_RELATIVE_MASS = 0.1  # of its true weight; below it a mode counts as missed


def mode_masses(x: Tensor, mass: Tensor, modes: Modes) -> Tensor:
    """Mass of the points nearest to the centre of each mode, (modes,), in the order of the modes.
    The points are (n, *event) in the data's units, their masses (n,).
    """
    centres = modes.centres.to(x).flatten(1)
    parts = x.flatten(1).split(_ROWS)
    nearest = torch.cat([torch.cdist(part, centres).argmin(1) for part in parts])
    return torch.zeros(len(centres), dtype=mass.dtype).index_add(0, nearest, mass)


def mass_kl(p: Tensor, q: Tensor) -> float:
    """KL(p || q) = sum_k p_k log(p_k / q_k) of masses, (modes,) each, in nats."""
    return float((torch.special.xlogy(p, p) - torch.special.xlogy(p, q.clamp(min=1e-300))).sum())


def mode_coverage(true: Tensor, weights: Tensor) -> float:
    """Fraction of the modes whose weight in the samples is at least a tenth of their true weight,
    in [0, 1]. Modes of zero true weight do not count. Both are (modes,), with sum 1.
    """
    present = true > 0
    return float((weights >= _MIN_RELATIVE_MASS * true)[present].double().mean())


class WeightError(NamedTuple):
    """The largest difference between a weight in samples and in the data."""

    value: float
    error: float
    """Its standard error, for independent points."""


def weight_error(true: Tensor, weights: Tensor, n_true: int, n: int) -> WeightError:
    """The difference of the weights, (modes,) each, that is largest in units of its standard error
    sqrt(w (1 - w) (1 / n_true + 1 / n)), with the mean w of both.

    Args:
        n_true, n: points from which the weights were counted.
    """
    mean = (n_true * true + n * weights) / (n_true + n)
    error = (mean * (1 - mean) * (1 / n_true + 1 / n)).sqrt().clamp(min=1 / (n_true + n))
    worst = int(((true - weights).abs() / error).argmax())
    return WeightError(float((true - weights)[worst].abs()), float(error[worst]))


class Clusters(NamedTuple):
    """Parts of a sample that are far from each other."""

    axes: Tensor
    """(d, k): the parts are apart in the projections onto them."""
    points: Tensor
    """(n, k), projected."""
    label: Tensor
    """(n,), int64: the part of each point, 0 for the largest."""

    def weights_of(self, x: Tensor) -> Tensor:
        """Fraction of the points x, (m, d), that are nearest to a point of each part, (parts,)."""
        rows = (x @ self.axes).split(_ROWS // 32)
        nearest = torch.cat([torch.cdist(part, self.points).argmin(1) for part in rows])
        counts = torch.bincount(self.label[nearest], minlength=int(self.label.max()) + 1)
        return counts.double() / len(x)


def find_clusters(points: Tensor) -> Clusters | None:
    """Parts of points, (n, d), that are far apart in space, along a principal axis or along a
    coordinate; None if there are none.

    Parts are components of single linkage, cut at three times the 95 % quantile of its distances,
    and along an axis at 0.3 standard deviations or more. There are at least two of 5 % of the
    points; smaller ones hold at most a tenth of them and are left out.
    """
    n, d = points.shape
    if n < _MIN_CLUSTERED:
        return None
    _, _, principal = torch.linalg.svd(points - points.mean(0), full_matrices=False)
    unit = torch.eye(d).to(points)
    for axes in (unit, *principal[:_MAX_AXES, :, None], *unit[:_MAX_COORDINATES, :, None]):
        projected = points @ axes
        label = _linked(projected)
        counts = torch.bincount(label)
        large = (counts >= _MIN_CLUSTER * n).nonzero()[:, 0]
        large = large[counts[large].argsort(descending=True)]
        if len(large) < 2 or counts[large].sum() < (1 - _MAX_UNCLUSTERED) * n:
            continue
        place = torch.full_like(counts, -1)
        place[large] = torch.arange(len(large))
        kept = place[label] >= 0
        return Clusters(axes, projected[kept], place[label[kept]])
    return None


def _linked(points: Tensor) -> Tensor:
    """The component of single linkage of each point, (n, k) -> (n,)."""
    if points.shape[1] == 1:
        values, order = points[:, 0].sort()
        gaps = values.diff()
        label = torch.zeros(len(points), dtype=torch.int64)
        limit = _MIN_GAP_RATIO * gaps.quantile(_GAP_QUANTILE)
        label[order[1:]] = (gaps > limit.clamp(min=_MIN_GAP_STD * values.std())).cumsum(0)
        return label
    from scipy.cluster.hierarchy import fcluster, linkage  # takes half a second to import

    tree = linkage(points.numpy(), "single")
    limit = _MIN_GAP_RATIO * float(torch.from_numpy(tree[:, 2].copy()).quantile(_GAP_QUANTILE))
    return torch.from_numpy(fcluster(tree, limit, "distance")).long() - 1


_MIN_CLUSTERED = 100  # points
_MIN_GAP_RATIO, _GAP_QUANTILE, _MIN_GAP_STD = 3.0, 0.95, 0.3
_MIN_CLUSTER, _MAX_UNCLUSTERED = 0.05, 0.1  # fractions of the points
_MAX_AXES, _MAX_COORDINATES = 8, 256
