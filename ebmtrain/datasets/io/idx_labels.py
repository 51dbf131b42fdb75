"""Classes of the images of MNIST, which are in separate files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ebmtrain.datasets.io.folders import resolve_folder
from ebmtrain.datasets.io.read_idx import find_idx_file, read_idx
from ebmtrain.errors import DataError, counted

_NAMES = ("train-labels", "t10k-labels")
_WANTED = (
    "put train-labels-idx1-ubyte.gz and t10k-labels-idx1-ubyte.gz there, or leave "
    "dataset.labels out"
)


def read_labels(
    images: Path, path: str | None, n_train: int, n_holdout: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Labels of the training and of the held-out images, from 0, in the order of their files; None:
    there are no files of labels.

    Args:
        images: folder of the images, searched if `path` is None.
        path: folder of the labels.
        n_train, n_holdout: numbers of images.

    Raises:
        DataError: only one of the two files exists, `path` has none, or a file is damaged or does
            not belong to these images.
    """
    folder = images if path is None else resolve_folder(path, _WANTED)
    train, holdout = (find_idx_file(folder, name, 1) for name in _NAMES)
    if train is None and holdout is None and path is None:
        return None
    if train is None or holdout is None:
        missing = _NAMES[0 if train is None else 1]
        other = train or holdout
        remedy = f"put it there too, or move {other.name} away" if other else _WANTED
        raise DataError(f"{folder} has no {missing}-idx1-ubyte: {remedy}")
    labels, held = _read_labels(train, n_train), _read_labels(holdout, n_holdout)
    largest = int(labels.max())
    # Letters (EMNIST) start at 1. A gap is more likely a damaged byte than a class without images.
    absent = np.setdiff1d(np.arange(1, largest), labels)
    if len(absent):
        raise DataError(
            f"{train} holds label {largest} and no {absent[0]}: get it again, number the classes "
            "without gaps, or move the labels away"
        )
    if held.max() > largest:
        raise DataError(
            f"{holdout} holds label {held.max()}, those of {train.name} end at {largest}: take "
            "both files from one data set"
        )
    return labels, held


def _read_labels(file: Path, count: int) -> np.ndarray:
    labels = read_idx(file, axes=1)
    if len(labels) != count:
        raise DataError(
            f"{file} holds {counted(len(labels), 'label')} for {counted(count, 'image')}: take "
            "labels and images from one data set"
        )
    return labels
