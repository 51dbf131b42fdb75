"""The classes of MNIST's images, which stand in files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import numpy as np

from ebmtrain.datasets.io.folders import resolve_folder
from ebmtrain.datasets.io.read_idx import find_idx_file, read_idx
from ebmtrain.errors import DataError

_STARTS = ("train-labels", "t10k-labels")
_WANTED = (
    "put train-labels-idx1-ubyte.gz and t10k-labels-idx1-ubyte.gz there, or leave "
    "dataset.labels out"
)


class LabelArguments(TypedDict, total=False):
    """What `image_points` takes of classes; empty: there are none."""

    labels: np.ndarray
    holdout_labels: np.ndarray
    classes: tuple[str, ...]


def read_labels(images: Path, path: str | None, n_train: int, n_holdout: int) -> LabelArguments:
    """Labels of the images to train on and of those held out, each in the order of its file. A
    class bears the number that is its label, from 0 to the greatest to train on.

    Args:
        images: folder of the images, where labels are looked for if `path` is None.
        path: of the folder that has them.
        n_train, n_holdout: how many images there are.

    Raises:
        DataError: a file is missing beside the other or in `path`, is damaged, or does not belong
            to these images.
    """
    folder = images if path is None else resolve_folder(path, _WANTED)
    train, holdout = (find_idx_file(folder, start, 1) for start in _STARTS)
    if train is None and holdout is None and path is None:
        return {}
    if train is None or holdout is None:
        missing = _STARTS[0 if train is None else 1]
        other = train or holdout
        remedy = _WANTED if other is None else f"put it there too, or move {other.name} away"
        raise DataError(f"{folder} has no {missing}-idx1-ubyte: {remedy}")
    labels, held = _read_labels(train, n_train), _read_labels(holdout, n_holdout)
    greatest = int(labels.max())
    # Letters are counted from 1. A gap is a damaged byte more often than a class without images.
    absent = np.setdiff1d(np.arange(1, greatest), labels)
    if len(absent):
        raise DataError(
            f"{train} holds label {greatest} and no {absent[0]}: get it again, number the classes "
            "without gaps, or move the labels away"
        )
    if held.max() > greatest:
        raise DataError(
            f"{holdout} holds label {held.max()}, those of {train.name} end at {greatest}: take "
            "both files from one data set"
        )
    names = tuple(str(label) for label in range(greatest + 1))
    return {"labels": labels, "holdout_labels": held, "classes": names}


def _read_labels(file: Path, count: int) -> np.ndarray:
    labels = read_idx(file, axes=1)
    if len(labels) != count:
        raise DataError(
            f"{file} holds {len(labels):,} labels for {count:,} images: take labels and images "
            "from one data set"
        )
    return labels
