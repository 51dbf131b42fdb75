"""How like the data a model's samples are, and how like theirs its slopes, in any dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor, nn

from ebmtrain.evaluation.estimators.discrepancies import (
    kernel_discrepancies,
    kernel_lengths,
    random_directions,
    sliced_wasserstein,
)
from ebmtrain.evaluation.estimators.modes import coverage, mass_kl, mode_masses
from ebmtrain.evaluation.estimators.stein import (
    fisher_divergence,
    scores,
    stein_discrepancies,
    true_scores,
)
from ebmtrain.evaluation.estimators.u_statistics import null_quantile, random_signs, unit_signs
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Metric, float64_copy
from ebmtrain.evaluation.temperature import configurational_temperature, temperature_warnings
from ebmtrain.types import Count, Dataset, Density, Modes

_TRUE_POINTS = 50_000  # that tell how much of the truth is nearest to each mode
TOO_FEW_HOLDOUT = "a single held-out point: no sample quality; hold out more of them"


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Samples of the model beside held-out points. Lengths are in standardized units, whatever the
    data's are; so numbers of data sets of different spread can be compared.

    mmd2, energy_distance, sliced_wasserstein   between as many samples as held-out points; see
        `discrepancies.py`. Beside each its `_floor`, of the same sizes: what 95 % of the shuffles
        of training and held-out points stay beneath. A number beneath its floor is not told from 0
        by so many points.
    ksd2               of the held-out points to the model, no samples needed; its floor is what
        chance makes of it where the scores are the model's; see `stein.py`
    fisher_divergence  mean ||s_model - s_true||^2 over the held-out points, where the truth is
        known and has a slope
    mode_coverage, mode_weights_samples, mode_kl_samples   where modes are known: the share of the
        modes of which the samples have at least a tenth of their true share, the share of samples
        nearest to each, and KL(true shares || these), with one point more, laid out as the truth
        is, so that a mode that is missed does not make it infinite. By chance it is about
        (modes - 1) / (2 points). Beside `mode_weights` and `mode_kl`, which are the model's own:
        where only the samples are wrong, chains do not mix.
    temperature_fitted, temperature_fitted_se   of the samples; see `temperature.py`

    Everything at the temperature T of the run. Samples of chains are not quite independent, the
    less so where `points` is more than `samples.chains`: floors and errors are then a little low.

    Args:
        every: updates between two; none before the first, the last update always makes one.
        points: samples, and held-out points, and training points: fewer where there are fewer; from
            2 to 100,000.
        projections: random directions of the sliced Wasserstein distance.
        shuffles: that make each floor.
    """

    at_start: ClassVar[bool] = False

    every: Count
    points: Annotated[int, Ge(2), Le(100_000)] = 1000
    projections: Count = 100
    shuffles: Count = 100

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        """Of an analytic landscape nothing: there is nothing to compare it with."""
        dataset = inputs.dataset
        if dataset is None:
            return Evaluation({}, [])
        generator = torch.Generator().manual_seed(inputs.generator("quality").initial_seed())
        energy = float64_copy(inputs.energy).cpu()
        samples = inputs.draw(self.points).to("cpu", torch.float64)
        real = choose_real_points(dataset, self.points, generator)
        metrics: dict[str, Metric] = {}
        warnings = []
        comparable = len(real.holdout) >= 2
        if comparable:
            signs = random_signs(len(real.holdout), self.shuffles, generator)
            metrics |= _score_metrics(energy, real.holdout, inputs.temperature, dataset, signs)
        else:
            warnings.append(TOO_FEW_HOLDOUT)
        if said := nonfinite_warning(samples.flatten(1).isfinite().all(1)):
            return Evaluation(metrics, [*warnings, said])
        if comparable:
            along = random_directions(self.projections, samples[0].numel(), generator)
            metrics |= sample_metrics(samples, real, along, signs)
        if dataset.truth is not None and dataset.truth.modes is not None:
            x = dataset.standardization.to_data(samples)
            metrics |= _mode_metrics(x, dataset.truth, dataset.truth.modes, generator)
        fitted = configurational_temperature(energy, samples, generator)
        if fitted is not None:
            metrics |= {"temperature_fitted": fitted.value, "temperature_fitted_se": fitted.error}
        return Evaluation(metrics, warnings + temperature_warnings(fitted, inputs.temperature))


class RealPoints(NamedTuple):
    """As many points of either kind, at random, (n, *event), standardized, float64."""

    train: Tensor
    holdout: Tensor


def nonfinite_warning(finite: Tensor) -> str | None:
    """What to say of samples, (n,), not all of which are finite; None: they are."""
    lost = int((~finite).sum())
    if not lost:
        return None
    return (
        f"{lost} of {len(finite)} samples are not finite, and of no quality: lower "
        "sampler.step_size, or set model.base_std"
    )


def choose_real_points(dataset: Dataset, most: int, generator: Generator) -> RealPoints:
    n = min(most, len(dataset.train), len(dataset.holdout))
    kinds = (dataset.train, dataset.holdout)
    chosen = (x[torch.randperm(len(x), generator=generator)[:n]] for x in kinds)
    return RealPoints(*(dataset.standardization.to_standard(x) for x in chosen))


def _score_metrics(
    energy: nn.Module, x: Tensor, temperature: float, dataset: Dataset, signs: Tensor
) -> dict[str, Metric]:
    """ksd2 with its floor, and fisher_divergence where it can be had, of held-out points x."""
    s, flat = scores(energy, x, temperature), x.flatten(1)
    both = torch.cat([unit_signs(len(x)), signs], 1)
    ksd2 = stein_discrepancies(flat, s.flatten(1), kernel_lengths(flat), both)
    found: dict[str, Metric] = {"ksd2": float(ksd2[0]), "ksd2_floor": null_quantile(ksd2[1:])}
    true = true_scores(dataset, x)
    if true is not None:
        found["fisher_divergence"] = fisher_divergence(s, true)
    return found


def sample_metrics(
    samples: Tensor, real: RealPoints, along: Tensor, signs: Tensor
) -> dict[str, Metric]:
    """The discrepancies and their floors; the kernels are those of the held-out points."""
    train, holdout = real.train.flatten(1), real.holdout.flatten(1)
    drawn, lengths = samples[: len(holdout)].flatten(1), kernel_lengths(holdout)
    once = unit_signs(len(holdout))
    found = [
        torch.cat(
            [
                kernel_discrepancies(x, holdout, lengths, w),
                sliced_wasserstein(x, holdout, along, w)[None],
            ]
        )
        for x, w in ((drawn, once), (train, signs))
    ]
    metrics: dict[str, Metric] = {}
    for i, name in enumerate(("mmd2", "energy_distance", "sliced_wasserstein")):
        metrics |= {name: float(found[0][i]), f"{name}_floor": null_quantile(found[1][i])}
    return metrics


def _mode_metrics(
    x: Tensor, truth: Density, modes: Modes, generator: Generator
) -> dict[str, Metric]:
    """What samples x, (n, *event), in the data's units, say of the modes."""
    n = len(x)
    true = _mode_weights(truth.sample(_TRUE_POINTS, generator), modes)
    shares = _mode_weights(x, modes)
    return {
        "mode_coverage": coverage(true, shares),
        "mode_weights_samples": shares.tolist(),
        "mode_kl_samples": mass_kl(true, (n * shares + true) / (n + 1)),
    }


def _mode_weights(x: Tensor, modes: Modes) -> Tensor:
    """Of the points nearest to each mode's centre, (modes,)."""
    return mode_masses(x, torch.full((len(x),), 1 / len(x), dtype=torch.float64), modes)
