"""The handwritten digits that come with scikit-learn: nothing is downloaded."""

from __future__ import annotations

import numpy as np

from ebmtrain.datasets.augmentation import AugmentedImages
from ebmtrain.datasets.images import PixelScaling, image_dataset
from ebmtrain.datasets.points import Points
from ebmtrain.runtime.optional import import_sklearn
from ebmtrain.types import OpenUnit, WholeNumber

_LEVELS = 17  # a pixel counts the dark ones of a block of 4 x 4


def digits(
    *,
    holdout: OpenUnit = 0.2,
    standardize: PixelScaling = "range",
    dequantize: bool = True,
    shift: WholeNumber = 0,
    flip: bool = False,
    without: WholeNumber | None = None,
    seed: WholeNumber,
) -> Points | AugmentedImages:
    """1797 images of 8 x 8 pixels, each from 0 to 16 (Alpaydin & Kaynak, 1998), and their
    classes, split at random. Event (8, 8).

    Args:
        holdout: share of the images that is not trained on, in (0, 1).
        standardize: range: from -1 to 1; true: mean 0 and standard deviation 1 of each pixel;
            whiten: uncorrelated as well; false: as they are.
        dequantize: add uniform noise in [0, 1) to each pixel, see `image_dataset`; false: 1/2, and
            no NLL means much.
        shift: move each training image by up to so many pixels, down or up and across, anew for
            each batch; what stands at its edge goes on. 0: not at all.
        flip: mirror every second training image, left and right, anew for each batch.
        without: a class, counted from 0, that is neither trained on nor held out; its images are
            the anomalies of evaluation=anomalies. null: none.
        seed: of the split, of the noise and of the changes.

    Raises:
        ConfigError: scikit-learn is not installed.
        DataError: there is no class `without`.
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
