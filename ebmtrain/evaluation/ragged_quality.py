"""Two-sample distances between samples and held-out sequences of different lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ebmtrain.evaluation.diagnostics import chain_age_metrics
from ebmtrain.evaluation.estimators.discrepancies import random_directions
from ebmtrain.evaluation.estimators.u_statistics import random_signs
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, float64_copy
from ebmtrain.evaluation.quality import (
    TOO_FEW_HOLDOUT,
    choose_real_points,
    energy_gap,
    nonfinite_warning,
    sample_metrics,
)
from ebmtrain.masks import fill_zeros, finite_mask, step_mask
from ebmtrain.types import Count, WholeNumber


@dataclass(frozen=True, kw_only=True)
class RaggedQuality:
    """energy_gap, mmd2, energy_distance and sliced_wasserstein of `Quality`, with floors, between
    samples and held-out sequences, both embedded in one space by `_pad_and_flatten`. The distances
    compare lengths and values jointly: both must be as in the data.

    The other metrics of `Quality` are left out: they need the gradient of the energy with respect
    to coordinates that every point has.

    Args:
        every, points, projections, shuffles: as of `Quality`.
    """

    at_start: ClassVar[bool] = False

    every: WholeNumber
    points: Annotated[int, Ge(2), Le(100_000)] = 1000
    projections: Count = 100
    shuffles: Count = 100

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        dataset = inputs.dataset
        assert dataset is not None  # a landscape is never ragged
        generator = inputs.cpu_generator("quality")
        samples = inputs.draw(self.points).to("cpu", torch.float64)
        real = choose_real_points(dataset, self.points, generator)
        if len(real[0]) < 2:
            return Evaluation({}, [TOO_FEW_HOLDOUT])
        if warning := nonfinite_warning(finite_mask(samples)):
            return Evaluation({}, [warning])
        gap = energy_gap(float64_copy(inputs.energy).cpu(), samples, real[1], inputs.temperature)
        samples, train, holdout = map(_pad_and_flatten, (samples, *real))
        signs = random_signs(len(holdout), self.shuffles, generator)
        directions = random_directions(self.projections, holdout.shape[1], generator)
        distances = sample_metrics(samples, train, holdout, directions, signs)
        return Evaluation({**distances, "energy_gap": gap}, [])


def _pad_and_flatten(x: Tensor) -> Tensor:
    """Embeds sequences in one vector space, (n, length, channels) -> (n, length * (channels + 1)):
    missing steps are filled with 0, and an additional channel is 1 at present steps and 0 at
    missing ones.

    The map is injective, so that a distance between distributions of vectors is one between
    distributions of sequences. A step that only one of two sequences has contributes its distance
    from the mean, and at least 1 standard deviation.

    Args:
        x: standardized, NaN at missing steps.
    """
    mask = step_mask(x)
    return torch.cat([fill_zeros(x, mask), mask[..., None].to(x)], 2).flatten(1)


_NOTICE = (
    "no quadrature, AIS or R-hat: sequences of different lengths are not in one space; see "
    "energy_distance and plots/samples_final.png, or give all sequences the same length"
)


@dataclass(frozen=True, kw_only=True)
class RaggedDiagnostics:
    """For sequences of different lengths: ages of the method's chains, and a notice about the
    metrics that are left out.

    Args:
        every: updates between two evaluations, see `Evaluator`.
    """

    at_start: ClassVar[bool] = False

    every: WholeNumber

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        return Evaluation(chain_age_metrics(inputs), [_NOTICE])
