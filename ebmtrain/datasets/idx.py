"""MNIST, Fashion-MNIST and others of their format, from the original files."""

from __future__ import annotations

from pathlib import Path

from ebmtrain.datasets.images import PixelScaling, image_dataset
from ebmtrain.datasets.io.folders import resolve_folder
from ebmtrain.datasets.io.idx_labels import read_labels
from ebmtrain.datasets.io.read_idx import find_idx_file, read_idx
from ebmtrain.datasets.points import Points
from ebmtrain.errors import DataError
from ebmtrain.types import Count, WholeNumber

_LEVELS = 256
_WANTED = (
    "put train-images-idx3-ubyte.gz and t10k-images-idx3-ubyte.gz there (of MNIST: "
    "storage.googleapis.com/cvdf-datasets/mnist, of Fashion-MNIST: "
    "github.com/zalandoresearch/fashion-mnist), or give dataset.path=FOLDER"
)


def idx(
    *,
    path: str,
    labels: str | None = None,
    n_train: Count | None = None,
    standardize: PixelScaling = "range",
    dequantize: bool = True,
    shift: WholeNumber = 0,
    flip: bool = False,
    without: WholeNumber | None = None,
    seed: WholeNumber,
) -> Points:
    """Training images of train-images-idx3-ubyte, held-out images of t10k-images-idx3-ubyte, and
    their classes if train-labels-idx1-ubyte and t10k-labels-idx1-ubyte exist. Event (height,
    width).

    Args:
        path: folder with the two files of images, plain or compressed (.gz).
        labels: folder with the two files of labels, plain or compressed; null: `path`, and no
            classes if it has none.
        n_train: number of training images, selected at random; null: all.
        standardize, dequantize, shift, flip, without, seed: see `image_dataset`.

    Raises:
        DataError: a file is missing or invalid; one line with the reason and the remedy.
    """
    folder = resolve_folder(path, _WANTED)
    files = _image_file(folder, "train"), _image_file(folder, "t10k")
    train, holdout = (read_idx(file) for file in files)
    sizes = [" x ".join(map(str, images.shape[1:])) for images in (train, holdout)]
    if sizes[0] != sizes[1]:
        raise DataError(
            f"{files[0]} holds images of {sizes[0]}, {files[1].name} of {sizes[1]}: take both "
            "files from one data set"
        )
    y, y_held = read_labels(folder, labels, len(train), len(holdout)) or (None, None)
    return image_dataset(
        train,
        levels=_LEVELS,
        holdout=holdout,
        n_train=n_train,
        standardize=standardize,
        dequantize=dequantize,
        shift=shift,
        flip=flip,
        without=without,
        seed=seed,
        labels=y,
        holdout_labels=y_held,
        classes=() if y is None else tuple(map(str, range(int(y.max()) + 1))),
    )


def _image_file(folder: Path, part: str) -> Path:
    file = find_idx_file(folder, f"{part}-images", 3)
    if file is None:
        raise DataError(f"{folder} has no {part}-images-idx3-ubyte: {_WANTED}")
    return file
