"""CIFAR-10 (Krizhevsky, 2009) from its original files, in the Python or the binary version."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ebmtrain.datasets.images import PixelScaling, image_dataset
from ebmtrain.datasets.io.folders import read_bytes, resolve_folder
from ebmtrain.datasets.io.read_pickle import byte_array, read_pickle, whole_numbers
from ebmtrain.datasets.points import Points
from ebmtrain.errors import DataError, counted
from ebmtrain.types import Count, WholeNumber

_LEVELS = 256
_EVENT = (3, 32, 32)
_PIXELS = 3072
_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_WANTED = (
    "unpack cifar-10-python.tar.gz or cifar-10-binary.tar.gz (www.cs.toronto.edu/~kriz/cifar.html) "
    "and put data_batch_1 to data_batch_5 and test_batch there (or the same with .bin), or give "
    "dataset.path=FOLDER"
)


def cifar10(
    *,
    path: str,
    n_train: Count | None = None,
    standardize: PixelScaling = "range",
    dequantize: bool = True,
    shift: WholeNumber = 0,
    flip: bool = False,
    without: WholeNumber | None = None,
    seed: WholeNumber,
) -> Points:
    """Training images of data_batch_1 to 5, held-out images of test_batch, and their ten classes.
    Event (3, 32, 32): red, green, blue.

    Args:
        path: folder with the six files: the pickles, which are read without executing them, or the
            binary files (.bin).
        n_train: number of training images, selected at random; null: all.
        standardize, dequantize, shift, flip, without, seed: see `image_dataset`.

    Raises:
        DataError: a file is missing or invalid; one line with the reason and the remedy.
    """
    folder = resolve_folder(path, _WANTED)
    binary = not (folder / BATCHES[0]).exists() and (folder / f"{BATCHES[0]}.bin").exists()
    read, ending = (_read_binary, ".bin") if binary else (_read_python, "")
    files = [folder / f"{name}{ending}" for name in BATCHES]
    for file in files:
        if not file.exists():
            raise DataError(f"{folder} has no {file.name}: {_WANTED}")
    *parts, (holdout, holdout_labels) = (read(file) for file in files)
    return image_dataset(
        np.concatenate([images for images, _ in parts]),
        levels=_LEVELS,
        holdout=holdout,
        n_train=n_train,
        standardize=standardize,
        dequantize=dequantize,
        shift=shift,
        flip=flip,
        without=without,
        seed=seed,
        labels=np.concatenate([labels for _, labels in parts]),
        holdout_labels=holdout_labels,
        classes=_CLASSES,
    )


def _read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one byte of label and 3072 of pixels -> (n, 3, 32, 32), (n,)."""
    data = np.frombuffer(read_bytes(path), np.uint8)
    row = 1 + _PIXELS
    if len(data) % row:
        size = f"{len(data):,} bytes, not a multiple of {row:,}, the length of a row"
        raise DataError(f"{path} has {size}: get it again")
    rows = data.reshape(-1, row)
    if rows[:, 0].max() >= len(_CLASSES):
        raise DataError(
            f"{path} has labels above 9: it is not a binary file of CIFAR-10; get the original file"
        )
    return rows[:, 1:].reshape(-1, *_EVENT), rows[:, 0]


def _read_python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The array `data` and the list `labels` of a pickled mapping -> (n, 3, 32, 32), (n,)."""
    content = read_pickle(read_bytes(path), str(path))
    array = byte_array(content, "data", str(path))
    if array.ndim != 2 or array.shape[1] != _PIXELS or not len(array):
        raise DataError(
            f"{path} holds data of shape {array.shape}, not (images, {_PIXELS}): it is not a "
            "file of CIFAR-10"
        )
    labels = whole_numbers(content, "labels", len(_CLASSES), str(path))
    if len(labels) != len(array):
        raise DataError(
            f"{path} holds {counted(len(labels), 'label')} for {counted(len(array), 'image')}: get "
            "the original again"
        )
    return array.reshape(-1, *_EVENT), labels
