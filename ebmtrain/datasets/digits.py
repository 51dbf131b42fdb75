"""Handwritten digits from scikit-learn; nothing is downloaded."""

from __future__ import annotations

import numpy as np

from ebmtrain.datasets.images import PixelScaling, image_dataset
from ebmtrain.datasets.points import Points
from ebmtrain.runtime.optional import import_sklearn
from ebmtrain.types import OpenUnit, WholeNumber

_LEVELS = 17  # a pixel is the number of dark pixels in a block of 4 x 4


def digits(
    *,
    holdout: OpenUnit = 0.2,
    standardize: PixelScaling = "range",
    dequantize: bool = True,
    shift: WholeNumber = 0,
    flip: bool = False,
    without: WholeNumber | None = None,
    seed: WholeNumber,
) -> Points:
    """1797 images of 8 x 8 pixels, each from 0 to 16 (Alpaydin & Kaynak, 1998), and their
    classes, split at random. Event (8, 8).

    Args:
        holdout: fraction of held-out images, in (0, 1).
        standardize, dequantize, shift, flip, without, seed: see `image_dataset`.

    Raises:
        ConfigError: scikit-learn is not installed.
        DataError: the class `without` does not exist.
    """
    found = import_sklearn("datasets", "dataset=digits").load_digits()
    return image_dataset(
        found.images.astype(np.uint8),
        levels=_LEVELS,
        holdout=holdout,
        standardize=standardize,
        dequantize=dequantize,
        shift=shift,
        flip=flip,
        without=without,
        seed=seed,
        labels=found.target,
        classes=tuple(str(name) for name in found.target_names),
    )
