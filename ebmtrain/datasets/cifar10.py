"""CIFAR-10 from its original files, of Python or binary."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ebmtrain.datasets.dequantized import Dequantized
from ebmtrain.datasets.folders import content, folder_of
from ebmtrain.datasets.images import Scaling, image_points
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.read_pickle import pickled_bytes
from ebmtrain.errors import DataError
from ebmtrain.types import Count, WholeNumber

LEVELS = 256
EVENT = (3, 32, 32)
PIXELS = 3072
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
WANTED = (
    "unpack cifar-10-python.tar.gz or cifar-10-binary.tar.gz (www.cs.toronto.edu/~kriz/cifar.html) "
    "and put data_batch_1 to data_batch_5 and test_batch there (or the same with .bin), or give "
    "dataset.path=FOLDER"
)


def cifar10(
    *,
    path: str,
    n_train: Count | None = None,
    standardize: Scaling = "range",
    dequantize: bool = True,
    seed: WholeNumber,
) -> Points | Dequantized:
    """The images of data_batch_1 to 5 to train on, those of test_batch held out, without their
    classes. Event (3, 32, 32): red, green, blue.

    Args:
        path: of the folder with the six files: the pickles, of which nothing is executed, or the
            binary ones (.bin).
        n_train: train on so many of the images, at random; null: all.
        standardize: range: from -1 to 1; true: mean 0 and standard deviation 1 of each pixel;
            whiten: uncorrelated as well; false: from 0 to 256.
        dequantize: add uniform noise in [0, 1) to each pixel, see `image_points`.
        seed: of the choice and of the noise.

    Raises:
        DataError: a file is missing or cannot be used; one line with the reason and the remedy.
    """
    folder = folder_of(path, WANTED)
    binary = not (folder / BATCHES[0]).exists() and (folder / f"{BATCHES[0]}.bin").exists()
    read, ending = (read_binary, ".bin") if binary else (read_python, "")
    files = [folder / f"{name}{ending}" for name in BATCHES]
    for file in files:
        if not file.exists():
            raise DataError(f"{folder} has no {file.name}: {WANTED}")
    *train, holdout = (read(file) for file in files)
    return image_points(
        np.concatenate(train),
        levels=LEVELS,
        holdout=holdout,
        n_train=n_train,
        standardize=standardize,
        dequantize=dequantize,
        seed=seed,
    )


def read_binary(path: Path) -> np.ndarray:
    """Rows of one byte of label and 3072 of pixels -> (n, 3, 32, 32)."""
    data = np.frombuffer(content(path), np.uint8)
    row = 1 + PIXELS
    if len(data) % row:
        raise DataError(
            f"{path} has {len(data):,} bytes, which are no whole rows of {row:,}: get it again"
        )
    rows = data.reshape(-1, row)
    if rows[:, 0].max() > 9:
        raise DataError(f"{path} has labels above 9: it is no binary file of CIFAR-10")
    return rows[:, 1:].reshape(-1, *EVENT)


def read_python(path: Path) -> np.ndarray:
    """The array `data` of a pickled mapping -> (n, 3, 32, 32)."""
    array = pickled_bytes(content(path), "data", str(path))
    if array.ndim != 2 or array.shape[1] != PIXELS or not len(array):
        raise DataError(
            f"{path} holds data of shape {array.shape}, not (images, {PIXELS}): it is no file of "
            "CIFAR-10"
        )
    return array.reshape(-1, *EVENT)
