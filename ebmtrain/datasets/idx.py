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
    """The images of train-images-idx3-ubyte to train on, those of t10k-images-idx3-ubyte held out,
    and their classes, where there are train-labels-idx1-ubyte and t10k-labels-idx1-ubyte. Event
    (height, width).

    Args:
        path: of the folder with the two files of images, as they are or compressed (.gz).
        labels: of the folder with the two files of labels, likewise; null: the same, and where it
            has none the images have no classes.
        n_train: train on so many of the images, at random; null: all.
        standardize: range: from -1 to 1; true: mean 0 and standard deviation 1 of each pixel;
            whiten: uncorrelated as well; false: from 0 to 256.
        dequantize: add uniform noise in [0, 1) to each pixel, see `image_dataset`.
        shift: move each training image by up to so many pixels, down or up and across, anew for
            each batch; what stands at its edge goes on. 0: not at all.
        flip: mirror every second training image, left and right, anew for each batch.
        without: a class, counted from 0, that is neither trained on nor held out; its images are
            the anomalies of evaluation=anomalies. null: none.
        seed: of the choice, of the noise and of the changes.

    Raises:
        DataError: a file is missing or cannot be used; one line with the reason and the remedy.
    """
    folder = resolve_folder(path, _WANTED)
    files = _found(folder, "train"), _found(folder, "t10k")
    train, holdout = (read_idx(file) for file in files)
    if train.shape[1:] != holdout.shape[1:]:
        raise DataError(
            f"{files[0]} holds images of {_sized(train.shape)}, {files[1].name} of "
            f"{_sized(holdout.shape)}: take both files from one data set"
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


def _found(folder: Path, part: str) -> Path:
    file = find_idx_file(folder, f"{part}-images", 3)
    if file is None:
        raise DataError(f"{folder} has no {part}-images-idx3-ubyte: {_WANTED}")
    return file


def _sized(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[1:]))
