"""Points drawn from a density that is known."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Le

from ebmtrain.datasets.online import OnlineDataset
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.support import REAL
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Density, WholeNumber

# All of them are in memory at once. Without a bound a slip of the finger ends in the system's
# killing the process, which can say nothing; `fresh` trains on as many as one likes.
SampleSize = Annotated[int, Gt(0), Le(10_000_000)]


def toy(
    *,
    density: Density,
    n_train: SampleSize = 10_000,
    n_holdout: SampleSize = 20_000,
    standardize: bool = True,
    fresh: bool = False,
    seed: WholeNumber,
) -> Points | OnlineDataset:
    """Two independent samples of `density`.

    Args:
        density: where the points come from; it becomes the `truth` of the dataset.
        n_train: points to train on, at most ten million.
        n_holdout: points to measure on, likewise. More than to train on: they cost nothing, and the
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
        standardization=REAL.standardization(train, standardize),
        truth=density,
    )
    return OnlineDataset(points, density) if fresh else points
