"""The random split into training and held-out points, which keeps copies on one side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ebmtrain.datasets.augmentation import AugmentedPoints, Dequantization, augment
from ebmtrain.datasets.discrete import lattice_steps
from ebmtrain.datasets.leave_class_out import leave_class_out
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import Standardize
from ebmtrain.datasets.support import BINARY, REAL, Bounded
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Bounds, Labels, Support

_MIN_COPIES = 5  # per point on average, from which a data set is nothing but copies


def random_split(
    points: Tensor,
    *,
    holdout: float,
    standardize: Standardize,
    seed: int,
    names: tuple[str, ...] | None = None,
    labels: Tensor | None = None,
    classes: tuple[str, ...] = (),
    without: int | None = None,
    steps: Tensor | None = None,
    bounds: Bounds | None = None,
    states: bool = False,
) -> Points:
    """A random split into training and held-out points, see `split_rows`.

    Args:
        points: (n, *event), n >= 2.
        holdout: fraction of held-out points, in (0, 1). At least one point is held out and at
            least one is for training.
        standardize: scale each coordinate to mean 0 and standard deviation 1 over the training
            points; robust, whiten: see `fit_standardization`.
        seed: of the split and of the noise.
        names: names of the columns.
        labels: (n,), class of each point, from 0; None: no classes.
        classes: names of the classes.
        without: a class, from 0, that is excluded from both parts; its points are the anomalies of
            evaluation=anomalies. None: none.
        steps: widths of the uniform noise that is added to each element, see `Dequantization`:
            once to held-out points, again in each training batch. None: no noise.
        bounds: of the points, see `Bounded`; None: they are in R^d.
        states: the points are binary states, see `Binary`, which are not standardized, and of which
            copies are no sign of a fault.

    Raises:
        DataError: the class does not exist, or too few points remain without it.
    """
    split = split_rows(points.numpy(), holdout, seed)
    held, kept = split.order[: split.n_holdout], split.order[split.n_holdout :]
    both = None if labels is None else Labels(labels[kept], labels[held], classes)
    train, held_out, both, anomalies = leave_class_out(without, points[kept], points[held], both)
    source = origins = None
    if steps is not None:
        noise = [Dequantization(steps)]
        origins = torch.where(points.isnan(), torch.inf, points.double()).amin(0)
        origins = origins.nan_to_num(posinf=0.0)  # a step that no sequence has
        source = AugmentedPoints(train, noise)
        train = augment(train, noise, seed, "train")
        held_out = augment(held_out, noise, seed, "holdout")
        anomalies = None if anomalies is None else augment(anomalies, noise, seed, "anomalies")
    support: Support = REAL if bounds is None else Bounded(limits=bounds)
    support = BINARY if states else support
    units = support.standardization(train, standardize)
    return Points(
        train, held_out, standardization=units, support=support, names=names, labels=both,
        anomalies=anomalies,
        row_numbers=torch.cat([kept, held]) if without is None else None, source=source,
        steps=None if steps is None else steps.double().expand(points.shape[1:]).clone(),
        origins=origins, notes=() if states else split.notes,
    )  # fmt: skip


class Split(NamedTuple):
    """A random order of points, of which the first are held out."""

    order: Tensor
    """(n,), int64."""
    n_holdout: int
    notes: tuple[str, ...]
    """On copies among the points."""


def split_rows(points: np.ndarray, holdout: float, seed: int) -> Split:
    """A random split of n >= 2 points: about `holdout` n are held out, at least one and at most
    n - 1.

    Copies of one point are adjacent in the order and on one side: else a model is evaluated on what
    it was trained on. Without copies the order is a random permutation.
    """
    order = torch.randperm(len(points), generator=stream(seed, "split"))
    n_holdout = min(max(1, round(holdout * len(points))), len(points) - 1)
    group = _copy_groups(points)
    if group is None or group.max() == 0:
        return Split(order, n_holdout, ())
    _, first, inverse, sizes = np.unique(
        group[order.numpy()], return_index=True, return_inverse=True, return_counts=True
    )
    # In the order of their first points, those with more copies than can be held out last.
    ranked = np.lexsort((first, sizes > max(n_holdout, sizes.min())))
    filled = np.cumsum(sizes[ranked])
    n_groups = min(max(1, int((filled <= n_holdout).sum())), len(ranked) - 1)
    order = order[torch.from_numpy(np.argsort(np.argsort(ranked)[inverse], kind="stable"))]
    return Split(order, int(filled[n_groups - 1]), (_copies_note(len(points), len(sizes)),))


def _copies_note(n: int, n_distinct: int) -> str:
    which = "1 is a copy of another" if n - n_distinct == 1 else f"{n - n_distinct} are copies"
    what = f"of {n} points {which}, which the split keeps on one side"
    if n < _MIN_COPIES * n_distinct:
        return f"{what}: leave them out if they are not observations of their own"
    return (
        f"{what}: {n_distinct} distinct points are too few for a density, and an NLL of their "
        "copies means nothing; give distinct points"
    )


def _copy_groups(points: np.ndarray) -> np.ndarray | None:
    """The number of the distinct point that each of n points equals, (n,), from 0; None if all are
    distinct, or if points of few values agree by chance: not much more often than if each element
    were independent of the others.
    """
    rows = points.reshape(len(points), -1)
    group = _equal_rows(rows)
    n_copies = len(rows) - 1 - int(group.max())
    if not n_copies:
        return None
    if lattice_steps(points).all():
        generator = np.random.default_rng(0)
        independent = np.column_stack([generator.permutation(x) for x in rows.T])
        if n_copies <= 2 * (len(rows) - 1 - int(_equal_rows(independent).max())):
            return None
    return group


def _equal_rows(rows: np.ndarray) -> np.ndarray:
    """Equal numbers for equal rows, (n,), from 0: by a hash of 64 bits."""
    digest = np.zeros(len(rows), np.uint64)
    for x in rows.T:
        bits = np.ascontiguousarray(x + 0.0, np.float64).view(np.uint64)  # -0 is 0
        digest = (digest ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        digest ^= digest >> np.uint64(32)
    return np.unique(digest, return_inverse=True)[1]
