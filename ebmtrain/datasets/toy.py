"""Samples of a known density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Le

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.support import REAL
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Batch, Density, WholeNumber

# All points are in memory. Without a bound, a typing error would make the system kill the process
# without a message. `fresh` has no such limit.
SampleSize = Annotated[int, Gt(0), Le(10_000_000)]


def toy(
    *,
    density: Density,
    n_train: SampleSize = 10_000,
    n_holdout: SampleSize = 20_000,
    standardize: bool = True,
    fresh: bool = False,
    seed: WholeNumber,
) -> Points:
    """Two independent samples of `density`, for training and held out.

    Args:
        density: distribution of the points, and the `truth` of the data set.
        n_train: training points, at most ten million.
        n_holdout: held-out points, at most ten million. The default is larger than n_train: they
            cost little, and the standard error of the held-out NLL falls with their number.
        standardize: scale each coordinate to mean 0 and standard deviation 1 over the training
            points.
        fresh: sample every batch from `density` instead of the n_train points.
        seed: of both samples.
    """
    train = density.sample(n_train, stream(seed, "train"))
    holdout = density.sample(n_holdout, stream(seed, "holdout"))
    units = REAL.standardization(train, standardize)
    source = IndependentSamples(density) if fresh else None
    return Points(train, holdout, standardization=units, truth=density, source=source)


@dataclass(frozen=True)
class IndependentSamples:
    """A `BatchSource` of independent samples of a density, so that a model cannot overfit."""

    density: Density

    def __call__(self, points: Points, step: int, size: int, seed: int) -> Batch:
        return Batch(self.density.sample(size, stream(seed, "fresh", step)))
