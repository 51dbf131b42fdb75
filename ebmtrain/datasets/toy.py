"""Points drawn from a density that is known."""

from __future__ import annotations

from ebmtrain.datasets.fresh import Fresh
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardizing import standardization_of
from ebmtrain.seeding import stream
from ebmtrain.types import Count, Density, WholeNumber


def toy(
    *,
    density: Density,
    n_train: Count = 10_000,
    n_holdout: Count = 20_000,
    standardize: bool = True,
    fresh: bool = False,
    seed: WholeNumber,
) -> Points | Fresh:
    """Two independent samples of `density`.

    Args:
        density: where the points come from; it becomes the `truth` of the dataset.
        n_train: points to train on.
        n_holdout: points to measure on. More than to train on: they cost nothing, and the
            standard error of a held-out NLL falls with their number.
        standardize: give models coordinates of mean 0 and standard deviation 1 over the training
            points.
        fresh: draw every batch anew from `density`, in place of batches of the n_train points.
        seed: of both samples.
    """
    train = density.sample(n_train, stream(seed, "train"))
    holdout = density.sample(n_holdout, stream(seed, "holdout"))
    points = Points(
        train,
        holdout,
        standardization=standardization_of(train, standardize),
        truth=density,
    )
    return Fresh(points, density) if fresh else points
