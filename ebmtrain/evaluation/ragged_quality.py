"""How like the data samples are, where both are sequences of different lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ebmtrain.evaluation.diagnostics import chain_age_metrics
from ebmtrain.evaluation.estimators.discrepancies import random_directions
from ebmtrain.evaluation.estimators.u_statistics import random_signs
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput
from ebmtrain.evaluation.quality import (
    TOO_FEW_HOLDOUT,
    RealPoints,
    choose_real_points,
    nonfinite_warning,
    sample_metrics,
)
from ebmtrain.masks import fill_zeros, finite_mask, step_mask
from ebmtrain.types import Count


@dataclass(frozen=True, kw_only=True)
class RaggedQuality:
    """mmd2, energy_distance and sliced_wasserstein of `Quality`, each with its floor, between
    samples and held-out sequences, both embedded in one space by `pad_and_flatten`. The distances
    compare lengths and values jointly: both must be as in the data.

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

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        dataset = inputs.dataset
        assert dataset is not None  # a landscape has points of one shape
        generator = torch.Generator().manual_seed(inputs.generator("quality").initial_seed())
        samples = inputs.draw(self.points).to("cpu", torch.float64)
        real = RealPoints(
            *map(pad_and_flatten, choose_real_points(dataset, self.points, generator))
        )
        if len(real.holdout) < 2:
            return Evaluation({}, [TOO_FEW_HOLDOUT])
        if said := nonfinite_warning(finite_mask(samples)):
            return Evaluation({}, [said])
        signs = random_signs(len(real.holdout), self.shuffles, generator)
        along = random_directions(self.projections, real.holdout.shape[1], generator)
        return Evaluation(sample_metrics(pad_and_flatten(samples), real, along, signs), [])


def pad_and_flatten(x: Tensor) -> Tensor:
    """Sequences as points of one space, (n, length, channels) -> (n, length * (channels + 1)):
    zeros at the steps that are not there, and a last channel of 1 at those that are, 0 elsewhere.

    No two sequences become the same point, so that a distance between laws of such points is one
    between laws of sequences. A step that one has and another lacks parts the two by its distance
    from the mean, and by 1 standard deviation at least.

    Args:
        x: standardized, NaN at the steps that are not there.
    """
    there = step_mask(x)
    return torch.cat([fill_zeros(x, there), there[..., None].to(x)], 2).flatten(1)


_NOTICE = (
    "no quadrature, AIS or R-hat: sequences of different lengths are no points of one space; see "
    "energy_distance and plots/samples_final.png, or give all sequences the same length"
)


@dataclass(frozen=True, kw_only=True)
class RaggedDiagnostics:
    """For sequences of different lengths: how old the method's chains are, and what is left out.

    Args:
        every: updates between two; the last update always makes one.
    """

    at_start: ClassVar[bool] = False

    every: Count

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        return Evaluation(chain_age_metrics(inputs), [_NOTICE])
