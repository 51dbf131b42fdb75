"""Small tables from scikit-learn; nothing is downloaded."""

from __future__ import annotations

from typing import Literal

import torch

from ebmtrain.datasets.bounds import SupportOption, check_inside, parse_support
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.split import random_split
from ebmtrain.datasets.standardization import Standardize
from ebmtrain.runtime.optional import import_sklearn
from ebmtrain.types import OpenUnit, WholeNumber


def bundled(
    *,
    name: Literal["breast_cancer", "iris", "wine"],
    holdout: OpenUnit = 0.2,
    standardize: Standardize = True,
    support: SupportOption | None = None,
    without: WholeNumber | None = None,
    seed: WholeNumber,
) -> Points:
    """Measurements and their classes, split at random.

    Args:
        name: wine (178 points of 13 coordinates), breast_cancer (569 of 30), iris (150 of 4).
        holdout, standardize, without, seed: see `random_split`.
        support: bounds of columns, see `parse_support`; null: none.

    Raises:
        ConfigError: scikit-learn is not installed.
        DataError: too few points for whitening; the class does not exist.
    """
    table = getattr(import_sklearn("datasets", f"dataset={name}"), f"load_{name}")()
    names = tuple(map(str, table.feature_names))
    bounds = parse_support(support, table.data.shape[1:], names)
    if bounds is not None:
        check_inside(name, table.data, names, bounds)
    return random_split(
        torch.from_numpy(table.data),
        holdout=holdout,
        standardize=standardize,
        seed=seed,
        names=names,
        bounds=bounds,
        labels=torch.from_numpy(table.target).long(),
        classes=tuple(map(str, table.target_names)),
        without=without,
    )
