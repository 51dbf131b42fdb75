"""MNIST, Fashion-MNIST and others of their format, from the original files."""

from __future__ import annotations

from pathlib import Path

from ebmtrain.datasets.dequantized import Dequantized
from ebmtrain.datasets.folders import folder_of
from ebmtrain.datasets.images import Scaling, image_points
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.read_idx import read_idx
from ebmtrain.errors import DataError
from ebmtrain.types import Count, WholeNumber

LEVELS = 256
KINDS = {"train": "train-images", "holdout": "t10k-images"}
ENDINGS = ("-idx3-ubyte", ".idx3-ubyte", "-idx3-ubyte.gz", ".idx3-ubyte.gz")
WANTED = (
    "put train-images-idx3-ubyte.gz and t10k-images-idx3-ubyte.gz there (of MNIST: "
    "storage.googleapis.com/cvdf-datasets/mnist, of Fashion-MNIST: "
    "github.com/zalandoresearch/fashion-mnist), or give dataset.path=FOLDER"
)


def idx(
    *,
    path: str,
    n_train: Count | None = None,
    standardize: Scaling = "range",
    dequantize: bool = True,
    seed: WholeNumber,
) -> Points | Dequantized:
    """The images of train-images-idx3-ubyte to train on, those of t10k-images-idx3-ubyte held out,
    without their classes. Event (height, width).

    Args:
        path: of the folder with the two files, as they are or compressed (.gz).
        n_train: train on so many of the images, at random; null: all.
        standardize: range: from -1 to 1; true: mean 0 and standard deviation 1 of each pixel;
            whiten: uncorrelated as well; false: from 0 to 256.
        dequantize: add uniform noise in [0, 1) to each pixel, see `image_points`.
        seed: of the choice and of the noise.

    Raises:
        DataError: a file is missing or cannot be used; one line with the reason and the remedy.
    """
    folder = folder_of(path, WANTED)
    files = {kind: found(folder, start) for kind, start in KINDS.items()}
    train, holdout = (read_idx(file) for file in files.values())
    if train.shape[1:] != holdout.shape[1:]:
        raise DataError(
            f"{files['train']} holds images of {sized(train.shape)}, {files['holdout'].name} of "
            f"{sized(holdout.shape)}: take both files from one data set"
        )
    return image_points(
        train,
        levels=LEVELS,
        holdout=holdout,
        n_train=n_train,
        standardize=standardize,
        dequantize=dequantize,
        seed=seed,
    )


def found(folder: Path, start: str) -> Path:
    for ending in ENDINGS:
        if (folder / f"{start}{ending}").exists():
            return folder / f"{start}{ending}"
    raise DataError(f"{folder} has no {start}-idx3-ubyte: {WANTED}")


def sized(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[1:]))
