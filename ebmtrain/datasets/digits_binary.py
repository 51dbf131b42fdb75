"""Handwritten digits from scikit-learn as binary images; nothing is downloaded."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.split import split_rows
from ebmtrain.datasets.support import BINARY
from ebmtrain.runtime.optional import import_sklearn
from ebmtrain.types import Labels, OpenUnit, WholeNumber


def digits_binary(
    *, threshold: Annotated[int, Ge(1), Le(16)] = 8, holdout: OpenUnit = 0.2, seed: WholeNumber
) -> Points:
    """1797 images of 8 x 8 pixels (Alpaydin & Kaynak, 1998), whose pixels of at least `threshold`
    of 16 are 1 and others 0, and their classes, split at random. Event (8, 8).

    Args:
        threshold: from which a pixel is 1.
        holdout: fraction of held-out images, in (0, 1).
        seed: of the split.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    found = import_sklearn("datasets", "dataset=digits_binary").load_digits()
    images = (found.images >= threshold).astype(float)
    split = split_rows(images, holdout, seed)
    held, kept = split.order[: split.n_holdout], split.order[split.n_holdout :]
    points, classes = torch.from_numpy(images), torch.from_numpy(found.target).long()
    return Points(
        points[kept],
        points[held],
        standardization=BINARY.standardization(points, False),
        support=BINARY,
        pixels=(0.0, 1.0),
        labels=Labels(
            classes[kept], classes[held], tuple(str(name) for name in found.target_names)
        ),
    )
