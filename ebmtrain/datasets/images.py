"""Data sets of images: dequantization, scaling and augmentation of pixels."""

from __future__ import annotations

import numpy as np
import torch

from ebmtrain.datasets.augmentation import (
    Augmentation,
    AugmentedPoints,
    Dequantization,
    PixelCentre,
    RandomFlip,
    RandomShift,
    augment,
)
from ebmtrain.datasets.leave_class_out import leave_class_out
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.split import Split, split_rows
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
) -> Points:
    """A data set of dequantized images x = k + u, with pixels k in {0, ..., levels - 1} and u
    uniform in [0, 1).

    The NLL of a density of x, in nats, is an upper bound on the NLL of the discrete pixels (Theis,
    van den Oord & Bethge, ICLR 2016). Without u a density could be infinite at the whole numbers.

    u and the augmentations are drawn from the seed: once for held-out images, independently in each
    training batch. Held-out images are neither shifted nor flipped.

    Args:
        images: (n, *event) of whole numbers, n >= 1, n >= 2 if `holdout` is a fraction.
        levels: number of values of a pixel.
        holdout: the held-out images, (m, *event), or the fraction of `images` that is held out at
            random, in (0, 1).
        n_train: number of training images, selected at random; None: all.
        standardize: range: u = 2 x / levels - 1 in [-1, 1] for every pixel; True: mean 0 and
            standard deviation 1 per pixel; whiten: also uncorrelated; False: x, in [0, levels].
        dequantize: False: x = k + 1/2; an NLL is then not meaningful.
        shift: largest random shift of a training image in pixels, in each direction, see
            `RandomShift`; 0: none.
        flip: flip training images horizontally with probability 1/2.
        seed: of the split or selection, of the noise and of the augmentations.
        labels: (n,), class of each image, from 0; None: none.
        holdout_labels: (m,), class of each held-out image, if `holdout` are images.
        classes: names of the classes.
        without: a class, from 0, that is excluded from both parts; its images, dequantized like
            held-out ones, are the anomalies of evaluation=anomalies. None: none.

    Raises:
        DataError: the shift is as large as the image; the class `without` does not exist, or too
            few images remain without it.
    """
    height, width = images.shape[-2:]
    if shift >= min(height, width):
        raise DataError(
            f"dataset.shift is {shift}, and images have {height} x {width} pixels: give at most "
            f"{min(height, width) - 1}"
        )
    if isinstance(holdout, np.ndarray):
        split = Split(torch.randperm(len(images), generator=stream(seed, "split")), 0, ())
    else:
        split = split_rows(images, holdout, seed)
    order, n_holdout = split.order.numpy(), split.n_holdout
    held_out, kept = order[:n_holdout], order[n_holdout:][:n_train]
    held = holdout if isinstance(holdout, np.ndarray) else images[held_out]
    # Copies: an array from a file may be read-only, which tensors do not support.
    y = None
    if labels is not None:
        parts = labels[kept], labels[held_out] if holdout_labels is None else holdout_labels
        train_y, held_y = (torch.from_numpy(part.astype(np.int64)) for part in parts)
        y = Labels(train_y, held_y, classes)
    pixels, held, known, excluded = leave_class_out(
        without,
        torch.from_numpy(images[kept]),
        torch.from_numpy(held.copy()),
        y,
    )
    last: Augmentation = Dequantization() if dequantize else PixelCentre()
    augmentations = [
        *([RandomShift(shift)] if shift else []),
        *([RandomFlip()] if flip else []),
        last,
    ]
    train = augment(pixels, augmentations, seed, "train")
    support = Continuous((0.0, float(levels)))
    fixed = augmentations == [PixelCentre()]
    return Points(
        train,
        augment(held, [last], seed, "holdout"),
        anomalies=None if excluded is None else augment(excluded, [last], seed, "anomalies"),
        standardization=support.standardization(train, standardize),
        support=support,
        labels=known,
        pixels=support.bounds,
        notes=split.notes,
        source=None if fixed else AugmentedPoints(pixels, augmentations),
    )


def check_pixel_values(x: np.ndarray, path: str, *, dequantize: bool) -> None:
    """Checks that points for a model of `image_dataset` are dequantized.

    Raises:
        DataError: the points are whole numbers k, not the k + u of the training data. All of their
            pixels are at the edge of the support.
    """
    if (x == np.floor(x)).all():
        trained_on, offset = (
            ("k + u, u uniform in [0, 1)", "such noise") if dequantize else ("k + 1/2", "1/2")
        )
        raise DataError(
            f"{path} holds whole numbers, and the model was trained on pixels k as {trained_on}: "
            f"add {offset} to them"
        )
