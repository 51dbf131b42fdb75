"""Pictures in a folder and its subfolders."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Len

from ebmtrain.datasets.images import PixelScaling, image_dataset
from ebmtrain.datasets.io.folders import resolve_folder
from ebmtrain.datasets.io.memory import check_memory, points_bytes
from ebmtrain.datasets.io.read_picture import ENDINGS, read_picture
from ebmtrain.datasets.points import Points
from ebmtrain.errors import DataError, counted
from ebmtrain.types import Count, OpenUnit, WholeNumber

_LEVELS = 256
_WANTED = "give dataset.path=FOLDER with .png or .jpg files in it or in its subfolders"
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir")  # copies and previews of the pictures
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "holdout"}


def image_folder(
    *,
    path: str,
    size: Annotated[list[Count], Len(2, 2)] | None = None,
    channels: Literal[1, 3] | None = None,
    n_train: Count | None = None,
    holdout: OpenUnit = 0.2,
    standardize: PixelScaling = "range",
    dequantize: bool = True,
    shift: WholeNumber = 0,
    flip: bool = False,
    without: WholeNumber | None = None,
    seed: WholeNumber,
) -> Points:
    """All pictures (png, jpg, gif, bmp, tif, webp) in a folder and its subfolders, as a viewer
    shows them, split at random. Event (height, width) for gray pictures, else (3, height, width).

    If every picture is in a subfolder, the names of the subfolders, sorted, are the classes.
    Symbolic links to folders are not followed; hidden files are not read.

    Args:
        path: the folder.
        size: height and width that every picture is resized to; null: all have the same size.
        channels: 1: convert every picture to gray, 3: to RGB; null: all are of one kind, and none
            is transparent.
        n_train: number of training images, selected at random; null: all that are not held out.
        holdout: fraction of held-out images, in (0, 1).
        standardize, dequantize, shift, flip, without, seed: see `image_dataset`.

    Raises:
        DataError: a picture is invalid; one line with the reason and the remedy.
    """
    folder = resolve_folder(path, _WANTED)
    files, others = _list_files(folder)
    if len(files) < 2:
        found = f", and {_shown(others)}, not read as pictures" if others else ""
        raise DataError(
            f"{path} holds {counted(len(files), 'image')}{found}; at least 2 are needed: {_WANTED}"
        )
    n_points = min(len(files), (n_train or len(files)) + round(holdout * len(files)))
    images, n_deep = _read_all(files, size, channels, n_points)
    classes, numbers = _classes(folder, files)
    points = image_dataset(
        images,
        levels=_LEVELS,
        holdout=holdout,
        n_train=n_train,
        standardize=standardize,
        dequantize=dequantize,
        shift=shift,
        flip=flip,
        seed=seed,
        labels=numbers,
        classes=classes,
        without=without,
    )
    return replace(points, notes=(*_notes(path, others, n_deep, set(classes)), *points.notes))


def _notes(path: str, others: list[str], n_deep: int, classes: set[str]) -> tuple[str, ...]:
    notes = []
    if others:
        notes.append(
            f"{path} has files that are not read as pictures: {_shown(others)}; "
            "move them away, or save them as .png if they are pictures"
        )
    if n_deep:
        notes.append(
            f"{counted(n_deep, 'picture')} of 16 bits per pixel in {path} are scaled to 8 "
            "(0 ... 65535 to 0 ... 255): dataset=file with an npy file keeps all bits"
        )
    if classes and {name.lower() for name in classes} <= _PARTS:
        notes.append(
            f"the classes of {path} are its subfolders {', '.join(sorted(classes))}, which are "
            f"named as parts of a split: dataset.path={Path(path) / min(classes)} if so"
        )
    return tuple(notes)


def _shown(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _list_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The pictures, sorted by path, and the names of all other files, relative to the folder."""
    pictures, others = [], []
    for place, folders, names in os.walk(folder):
        folders[:] = [x for x in folders if not x.startswith(".") and x not in _SYSTEM_FOLDERS]
        for name in names:
            file = Path(place, name)
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                pictures.append(file)
            else:
                others.append(_printable(str(file.relative_to(folder))))
    return sorted(pictures), sorted(others)


def _printable(name: str) -> str:
    """The name without control characters, which a terminal would execute."""
    return "".join(c if c.isprintable() else "?" for c in name)


def _read_all(
    files: list[Path], size: list[int] | None, channels: int | None, n_points: int
) -> tuple[np.ndarray, int]:
    """All pictures, (n, *event) bytes, and the number of those that have 16 bits per pixel.

    Args:
        n_points: number of pictures that will be trained on or held out.
    """
    first, depth = read_picture(files[0], size, channels)
    check_memory(
        f"{files[0].parent} with {len(files):,} pictures of {first.size:,} numbers",
        len(files) * first.size + points_bytes((n_points, *first.shape)),
        "dataset.size=[height,width] makes them smaller, dataset.n_train=N selects some",
    )
    images = np.empty((len(files), *first.shape), np.uint8)
    images[0], n_deep = first, int(depth == 16)
    for i, file in enumerate(files[1:], 1):
        image, depth = read_picture(file, size, channels)
        if image.ndim != first.ndim:
            kinds = [("gray" if x.ndim == 2 else "coloured") for x in (image, first)]
            raise DataError(
                f"{file} is {kinds[0]}, {files[0].name} is {kinds[1]}: give dataset.channels=1 "
                "or 3 to convert all images"
            )
        if image.shape != first.shape:
            sizes = [" x ".join(map(str, x.shape[-2:])) for x in (image, first)]
            raise DataError(
                f"{file} has {sizes[0]} pixels, {files[0].name} has {sizes[1]}: give "
                "dataset.size=[height,width] to resize all images"
            )
        images[i] = image
        n_deep += depth == 16
    return images, n_deep


def _classes(folder: Path, files: list[Path]) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Names of the subfolders, sorted, and the one of each file, from 0; nothing if a file is in
    the folder itself, or all are in one subfolder."""
    names = [file.relative_to(folder).parts[:-1] for file in files]
    classes = sorted({parts[0] for parts in names if parts})
    if not all(names) or len(classes) < 2:
        return (), None
    numbers = np.searchsorted(classes, [parts[0] for parts in names])
    return tuple(map(_printable, classes)), numbers
