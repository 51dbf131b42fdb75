"""Images as points: dequantised, in the units of their pixels, scaled to [-1, 1], and moved and
mirrored where that is wanted."""

from __future__ import annotations

import numpy as np
import torch

from ebmtrain.datasets.augmentation import (
    Augmentation,
    AugmentedImages,
    Dequantization,
    PixelCentre,
    RandomFlip,
    RandomShift,
    augment,
)
from ebmtrain.datasets.leave_class_out import leave_class_out
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import PixelScaling
from ebmtrain.datasets.support import Continuous
from ebmtrain.errors import DataError
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Labels


def image_dataset(
    images: np.ndarray,
    *,
    levels: int,
    holdout: float | np.ndarray,
    n_train: int | None = None,
    standardize: PixelScaling,
    dequantize: bool,
    shift: int,
    flip: bool,
    seed: int,
    labels: np.ndarray | None = None,
    holdout_labels: np.ndarray | None = None,
    classes: tuple[str, ...] = (),
    without: int | None = None,
) -> Points | AugmentedImages:
    """x = k + u of pixels k in {0, ..., levels - 1}, u uniform in [0, 1): a density of x has a
    finite NLL, in nats, which is an upper bound on the NLL of the whole numbers themselves (Theis,
    van den Oord & Bethge, ICLR 2016). Without u a density could be infinite at these.

    u is drawn from the seed: once for the images held out, and anew for each batch to train on, and
    so are the other augmentations. Held-out images are neither shifted nor flipped.

    Args:
        images: (n, *event) of whole numbers, n >= 1, n >= 2 where some are to be held out.
        levels: how many values a pixel may have.
        holdout: the images held out, (m, *event), or the share of `images` that is, in (0, 1), at
            random.
        n_train: train on so many of the rest, at random; None: all.
        standardize: range: u = 2 x / levels - 1, from -1 to 1, all pixels alike; else as
            `fit_standardization`, pixel by pixel.
        dequantize: False: x = k + 1/2, the middle.
        shift: largest shift of a training image in pixels, see `RandomShift`; 0: none.
        flip: every second one is mirrored.
        seed: of the noise and of the split.
        labels: (n,), class of each image, counted from 0; None: none.
        holdout_labels: (m,), likewise of the images held out, where these are given and `labels`
            are.
        classes: names of the classes.
        without: a class that is neither trained on nor held out, see `leave_class_out`; None: none.
            Its images are changed as those held out are.

    Raises:
        DataError: images are moved out of themselves; there is no class to be left out, or too
            little without it.
    """
    height, width = images.shape[-2:]
    if shift >= min(height, width):
        raise DataError(
            f"dataset.shift is {shift}, which moves images of {height} x {width} pixels out of "
            f"sight: at most {min(height, width) - 1}"
        )
    order = torch.randperm(len(images), generator=stream(seed, "split")).numpy()
    if isinstance(holdout, np.ndarray):
        apart, held, kept = order[:0], holdout, order[:n_train]
    else:
        n_holdout = min(max(1, round(holdout * len(images))), len(images) - 1)
        apart, kept = order[:n_holdout], order[n_holdout:][:n_train]
        held = images[apart]
    # A copy: what was read from a file may not be written to, which tensors cannot promise.
    seen, held, known, left = leave_class_out(
        without,
        torch.from_numpy(images[kept]),
        torch.from_numpy(held.copy()),
        _split_labels(labels, holdout_labels, kept, apart, classes),
    )
    last: Augmentation = Dequantization() if dequantize else PixelCentre()
    augmentations = [
        *([RandomShift(shift)] if shift else []),
        *([RandomFlip()] if flip else []),
        last,
    ]
    train = augment(seen, augmentations, seed, "train")
    support = Continuous((0.0, float(levels)))
    points = Points(
        train,
        augment(held, [last], seed, "holdout"),
        anomalies=None if left is None else augment(left, [last], seed, "anomalies"),
        standardization=support.standardization(train, standardize),
        support=support,
        labels=known,
        pixels=support.bounds,
    )
    return (
        points if augmentations == [PixelCentre()] else AugmentedImages(seen, augmentations, points)
    )


def check_pixel_values(x: np.ndarray, path: str, *, dequantize: bool) -> None:
    """Of points in a file that are given to a model of `image_dataset`.

    Raises:
        DataError: they are the pixels k and not the k + u that it has learnt: at the edge of what
            it knows in every pixel, whatever they show.
    """
    if (x == np.floor(x)).all():
        learnt, add = (
            ("k + u, u uniform in [0, 1)", "such noise") if dequantize else ("k + 1/2", "1/2")
        )
        raise DataError(
            f"{path} holds whole numbers, and the model has learnt pixels k as {learnt}: add "
            f"{add} to them"
        )


def _split_labels(
    labels: np.ndarray | None,
    holdout_labels: np.ndarray | None,
    kept: np.ndarray,
    apart: np.ndarray,
    classes: tuple[str, ...],
) -> Labels | None:
    if labels is None:
        return None
    held = labels[apart] if holdout_labels is None else holdout_labels
    # Copies: what was read from a file may not be written to, which tensors cannot promise.
    y, y_held = (torch.from_numpy(some.astype(np.int64)) for some in (labels[kept], held))
    return Labels(y, y_held, classes)
