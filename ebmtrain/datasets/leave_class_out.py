"""A class that a model is not to see, so that its points are anomalies to it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ebmtrain.errors import DataError
from ebmtrain.types import Labels


class ClassSplit(NamedTuple):
    """Points to train on and held out, their classes, and those of the class that is in neither;
    None: no class was left out."""

    train: Tensor
    holdout: Tensor
    labels: Labels | None
    anomalies: Tensor | None


def leave_class_out(
    without: int | None, train: Tensor, holdout: Tensor, labels: Labels | None
) -> ClassSplit:
    """Takes one class away. The others keep their numbers and their split: of one seed, runs that
    leave out different classes share it.

    Args:
        without: a class, counted from 0; None: they stay as they are.
        train, holdout: (n, *event), (m, *event).
        labels: their classes; None: they have none.

    Raises:
        DataError: there are no classes, or not this one, or nothing is left without it.
    """
    if without is None:
        return ClassSplit(train, holdout, labels, None)
    if labels is None:
        raise DataError(
            f"dataset.without is {without}, and these data have no classes to leave out: "
            "dataset.without=null, or data with labels (dataset=digits)"
        )
    if without >= len(labels.names):
        raise DataError(
            f"dataset.without is {without}: classes of these data are 0 to {len(labels.names) - 1}"
        )
    of_it, held_of_it = labels.train == without, labels.holdout == without
    kept = Labels(labels.train[~of_it], labels.holdout[~held_of_it], labels.names)
    anomalies = torch.cat([train[of_it], holdout[held_of_it]])
    counts = len(kept.train), len(kept.holdout), len(anomalies)
    if 0 in counts:
        raise DataError(
            "dataset.without={} leaves {} points to train on, {} held out and {} anomalies, of "
            "which none may be 0: leave out another class".format(without, *counts)
        )
    return ClassSplit(train[~of_it], holdout[~held_of_it], kept, anomalies)
