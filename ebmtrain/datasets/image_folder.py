"""PNG and JPEG images in a folder and its subfolders."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Len
from PIL import Image

from ebmtrain.datasets.images import PixelScaling, image_dataset
from ebmtrain.datasets.io.folders import read_bytes, resolve_folder
from ebmtrain.datasets.points import Points
from ebmtrain.errors import DataError
from ebmtrain.types import Count, OpenUnit, WholeNumber

_LEVELS = 256
_ENDINGS = (".png", ".jpg", ".jpeg")
_MODES = {1: "L", 3: "RGB"}
_WANTED = "give dataset.path=FOLDER with .png or .jpg files in it or in its subfolders"
_MAX_PIXELS = 50_000_000  # per image


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
    seed: WholeNumber,
) -> Points:
    """All .png, .jpg and .jpeg files in a folder and its subfolders (symbolic links to folders are
    not followed), split at random. Event (height, width) for gray images, else (3, height, width).

    Args:
        path: the folder.
        size: height and width that every image is resized to; null: all have the same size.
        channels: 1: convert every image to gray, 3: to RGB; null: all are of one kind.
        n_train: number of training images, selected at random; null: all that are not held out.
        holdout: fraction of held-out images, in (0, 1).
        standardize, dequantize, shift, flip, seed: see `image_dataset`.

    Raises:
        DataError: an image is invalid; one line with the reason and the remedy.
    """
    files = _image_files(resolve_folder(path, _WANTED))
    if len(files) < 2:
        raise DataError(f"{path} holds {len(files)} images, at least 2 are needed: {_WANTED}")
    first = _read_pixels(files[0], size, channels)
    images = np.empty((len(files), *first.shape), np.uint8)
    for i, file in enumerate(files):
        image = first if i == 0 else _read_pixels(file, size, channels)
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
    return image_dataset(
        images,
        levels=_LEVELS,
        holdout=holdout,
        n_train=n_train,
        standardize=standardize,
        dequantize=dequantize,
        shift=shift,
        flip=flip,
        seed=seed,
    )


def _image_files(folder: Path) -> list[Path]:
    """The image files, sorted by path."""
    return sorted(
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(_ENDINGS)
    )


def _read_pixels(file: Path, size: list[int] | None, channels: int | None) -> np.ndarray:
    """Pixels as bytes, (height, width) for a gray image, (3, height, width) for RGB."""
    from io import BytesIO

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(read_bytes(file)), formats=["PNG", "JPEG"]) as picture:
                if picture.width * picture.height > _MAX_PIXELS:
                    raise DataError(
                        f"{file} has {picture.width} x {picture.height} pixels, more than "
                        f"{_MAX_PIXELS:,}: make it smaller"
                    )
                if channels is not None:
                    picture = picture.convert(_MODES[channels])
                elif picture.mode not in _MODES.values():
                    raise DataError(
                        f"{file} has mode {picture.mode}, neither gray nor RGB: give "
                        "dataset.channels=1 or 3 to convert all images"
                    )
                if size is not None:
                    picture = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
                array = np.asarray(picture)
    # Pillow raises any of these for an invalid file.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error).replace(str(file), "").splitlines()[0] if str(error) else "damaged"
        raise DataError(f"{file} is not a complete image ({reason}): get it again") from error
    return array if array.ndim == 2 else array.transpose(2, 0, 1)
