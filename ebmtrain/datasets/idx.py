"""MNIST, Fashion-MNIST and others of their format, from the original files."""

from __future__ import annotations

from pathlib import Path

from ebmtrain.datasets.augmentation import AugmentedImages
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
) -> Points | AugmentedImages:
    """Training images of train-images-idx3-ubyte, held-out images of t10k-images-idx3-ubyte, and
    their classes if train-labels-idx1-ubyte and t10k-labels-idx1-ubyte exist. Event (height,
    width).

    Args:
        path: folder with the two files of images, plain or compressed (.gz).
        labels: folder with the two files of labels, plain or compressed; null: `path`, and no
            classes if it has none.
        n_train: number of training images, selected at random; null: all.
        standardize: range: scale to [-1, 1]; true: mean 0 and standard deviation 1 per pixel;
            whiten: also uncorrelated; false: [0, 256].
        dequantize: add uniform noise in [0, 1) to each pixel, see `image_dataset`.
        shift: largest random shift of a training image in pixels, in each direction, independent in
            each batch; edge pixels are repeated. 0: no shift.
        flip: flip training images horizontally with probability 1/2, independently in each batch.
        without: a class, from 0, that is excluded from both parts; its images are the anomalies of
            evaluation=anomalies. null: none.
        seed: of the selection, of the noise and of the augmentations.

    Raises:
        DataError: a file is missing or invalid; one line with the reason and the remedy.
    """
    folder = resolve_folder(path, _WANTED)
    files = _image_file(folder, "train"), _image_file(folder, "t10k")
    train, holdout = (read_idx(file) for file in files)
    if train.shape[1:] != holdout.shape[1:]:
        raise DataError(
            f"{files[0]} holds images of {_format_size(train.shape)}, {files[1].name} of "
            f"{_format_size(holdout.shape)}: take both files from one data set"
        )
    classes = read_labels(folder, labels, len(train), len(holdout))
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
        **classes,
    )


def _image_file(folder: Path, part: str) -> Path:
    file = find_idx_file(folder, f"{part}-images", 3)
    if file is None:
        raise DataError(f"{folder} has no {part}-images-idx3-ubyte: {_WANTED}")
    return file


def _format_size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[1:]))
