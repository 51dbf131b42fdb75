"""Excluding one class from the data, whose points then serve as anomalies."""

from __future__ import annotations

import torch
from torch import Tensor

from ebmtrain.errors import DataError
from ebmtrain.types import Labels


def leave_class_out(
    without: int | None, train: Tensor, holdout: Tensor, labels: Labels | None
) -> tuple[Tensor, Tensor, Labels | None, Tensor | None]:
    """Training points, held-out points and labels without one class, and the points of that class,
    or None if no class is excluded. The other classes keep their numbers and their split, so runs
    of one seed that exclude different classes share it.

    Args:
        without: a class, from 0; None: no change.
        train, holdout: (n, *event), (m, *event).
        labels: their classes; None: no classes.

    Raises:
        DataError: there are no classes, the class does not exist, or nothing remains without it.
    """
    if without is None:
        return train, holdout, labels, None
    if labels is None:
        raise DataError(
            f"dataset.without is {without}, and these data have no classes to leave out: "
            "dataset.without=null, or data with labels (dataset=digits)"
        )
    if without >= len(labels.names):
        raise DataError(
            f"dataset.without is {without}: classes of these data are 0 to {len(labels.names) - 1}"
        )
    out_train, out_holdout = labels.train == without, labels.holdout == without
    kept = Labels(labels.train[~out_train], labels.holdout[~out_holdout], labels.names)
    anomalies = torch.cat([train[out_train], holdout[out_holdout]])
    counts = len(kept.train), len(kept.holdout), len(anomalies)
    if 0 in counts:
        raise DataError(
            "dataset.without={} leaves {} points to train on, {} held out and {} anomalies, of "
            "which none may be 0: leave out another class".format(without, *counts)
        )
    return train[~out_train], holdout[~out_holdout], kept, anomalies
