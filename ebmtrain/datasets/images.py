"""Images as points: dequantised, in the units of their pixels, scaled to [-1, 1], and moved and
mirrored where that is wanted."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from ebmtrain.datasets.augmentation import Change, Flip, Middle, Noise, Redrawn, Shift, changed
from ebmtrain.datasets.leave_class_out import leaving_out
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import standardization_of
from ebmtrain.errors import DataError
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Labels, Standardization

Scaling = Literal["range", True, False, "whiten"]


def image_points(
    images: np.ndarray,
    *,
    levels: int,
    holdout: float | np.ndarray,
    n_train: int | None = None,
    standardize: Scaling,
    dequantize: bool,
    shift: int,
    flip: bool,
    seed: int,
    labels: np.ndarray | None = None,
    holdout_labels: np.ndarray | None = None,
    classes: tuple[str, ...] = (),
    without: int | None = None,
) -> Points | Redrawn:
    """x = k + u of pixels k in {0, ..., levels - 1}, u uniform in [0, 1): a density of x has a
    finite NLL, in nats, which is an upper bound on the NLL of the whole numbers themselves (Theis,
    van den Oord & Bethge, ICLR 2016). Without u a density could be infinite at these.

    u is drawn from the seed: once for the images held out, and anew for each batch to train on, and
    so is what else changes in these. Images held out are neither moved nor mirrored.

    Args:
        images: (n, *event) of whole numbers, n >= 1, n >= 2 where some are to be held out.
        levels: how many values a pixel may have.
        holdout: the images held out, (m, *event), or the share of `images` that is, in (0, 1), at
            random.
        n_train: train on so many of the rest, at random; None: all.
        standardize: range: u = 2 x / levels - 1, from -1 to 1, all pixels alike; else as
            `standardization_of`, pixel by pixel.
        dequantize: False: x = k + 1/2, the middle.
        shift: training images are moved by up to so many pixels, see `Shift`; 0: they are not.
        flip: every second one is mirrored.
        seed: of the noise and of the split.
        labels: (n,), class of each image, counted from 0; None: none.
        holdout_labels: (m,), likewise of the images held out, where these are given and `labels`
            are.
        classes: names of the classes.
        without: a class that is neither trained on nor held out, see `leaving_out`; None: none.
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
    seen, held, known, left = leaving_out(
        without,
        torch.from_numpy(images[kept]),
        torch.from_numpy(held.copy()),
        _labelled(labels, holdout_labels, kept, apart, classes),
    )
    last: Change = Noise() if dequantize else Middle()
    changes = [*([Shift(shift)] if shift else []), *([Flip()] if flip else []), last]
    train = changed(seen, changes, seed, "train")
    if standardize == "range":
        half = torch.full_like(train[0], levels / 2)
        units = Standardization(half, half.clone())
    else:
        units = standardization_of(train, standardize)
    points = Points(
        train,
        changed(held, [last], seed, "holdout"),
        anomalies=None if left is None else changed(left, [last], seed, "anomalies"),
        standardization=units,
        labels=known,
        pixels=(0.0, float(levels)),
    )
    return points if changes == [Middle()] else Redrawn(seen, changes, points)


def check_noise(x: np.ndarray, path: str, *, dequantize: bool) -> None:
    """Of points in a file that are given to a model of `image_points`.

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


def _labelled(
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
