"""How like the data samples are, where both are sequences of different lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ebmtrain.evaluation.diagnostics import ages_of
from ebmtrain.evaluation.estimators.discrepancies import directions
from ebmtrain.evaluation.estimators.u_statistics import random_signs
from ebmtrain.evaluation.protocol import Evaluation, Subject
from ebmtrain.evaluation.quality import TOO_FEW, Real, of_no_quality, of_samples, real_points
from ebmtrain.masks import present, whole, zero_filled
from ebmtrain.types import Count


@dataclass(frozen=True, kw_only=True)
class RaggedQuality:
    """mmd2, energy_distance and sliced_wasserstein of `Quality`, each beside its floor, between
    samples and held-out sequences as `as_vectors` lays them into one space. They speak of lengths
    and of what is in the sequences together: both have to be as the data have them.

    Its other numbers are left out: they take slopes of the energy along coordinates that every
    point has.

    Args:
        every, points, projections, shuffles: as of `Quality`.
    """

    at_start: ClassVar[bool] = False

    every: Count
    points: Annotated[int, Ge(2), Le(100_000)] = 1000
    projections: Count = 100
    shuffles: Count = 100

    def __call__(self, subject: Subject) -> Evaluation:
        dataset = subject.dataset
        assert dataset is not None  # a landscape has points of one shape
        generator = torch.Generator().manual_seed(subject.generator("quality").initial_seed())
        samples = subject.draw(self.points).to("cpu", torch.float64)
        real = Real(*map(as_vectors, real_points(dataset, self.points, generator)))
        if len(real.holdout) < 2:
            return Evaluation({}, [TOO_FEW])
        if said := of_no_quality(whole(samples)):
            return Evaluation({}, [said])
        signs = random_signs(len(real.holdout), self.shuffles, generator)
        along = directions(self.projections, real.holdout.shape[1], generator)
        return Evaluation(of_samples(as_vectors(samples), real, along, signs), [])


def as_vectors(x: Tensor) -> Tensor:
    """Sequences as points of one space, (n, length, channels) -> (n, length * (channels + 1)):
    zeros at the steps that are not there, and a last channel of 1 at those that are, 0 elsewhere.

    No two sequences become the same point, so that a distance between laws of such points is one
    between laws of sequences. A step that one has and another lacks parts the two by its distance
    from the mean, and by 1 standard deviation at least.

    Args:
        x: standardized, NaN at the steps that are not there.
    """
    there = present(x)
    return torch.cat([zero_filled(x, there), there[..., None].to(x)], 2).flatten(1)


_NOTICE = (
    "no quadrature, AIS or R-hat: sequences of different lengths are no points of one space; see "
    "energy_distance and plots/samples_final.png, or give all sequences the same length"
)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """For sequences of different lengths: how old the method's chains are, and what is left out.

    Args:
        every: updates between two; the last update always makes one.
    """

    at_start: ClassVar[bool] = False

    every: Count

    def __call__(self, subject: Subject) -> Evaluation:
        return Evaluation(ages_of(subject), [_NOTICE])
