"""Two-sample distances between samples and held-out data, kernel Stein discrepancy and mode
weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor, nn

from ebmtrain.datasets.support import Categorical
from ebmtrain.evaluation.estimators.discrepancies import (
    kernel_discrepancies,
    kernel_lengths,
    random_directions,
    sliced_wasserstein,
)
from ebmtrain.evaluation.estimators.modes import (
    find_clusters,
    mass_kl,
    mode_coverage,
    mode_masses,
    weight_error,
)
from ebmtrain.evaluation.estimators.stein import (
    fisher_divergence,
    scores,
    stein_discrepancies,
    true_scores,
)
from ebmtrain.evaluation.estimators.u_statistics import null_quantile, random_signs, unit_signs
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Metric, float64_copy
from ebmtrain.evaluation.temperature import configurational_temperature, temperature_warnings
from ebmtrain.score import conditional_nll, in_chunks
from ebmtrain.types import Count, Dataset, Density, Modes, Support, WholeNumber

_MAX_CLUSTERED = 2_000  # real points in which modes are looked for
_N_TRUE_POINTS = 50_000  # to estimate the true weight of each mode
TOO_FEW_HOLDOUT = "no sample quality: there is a single held-out point; hold out more points"


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Quality of samples and of the score of the model on held-out points, in any dimension.
    Lengths are in standardized units, so that data sets of different scale can be compared.

    mmd2, energy_distance, sliced_wasserstein   between equally many samples and held-out points;
        see `discrepancies.py`. Each has a `_floor` for the same sizes: the 95 % quantile of its
        value between training and held-out points under random exchanges of pairs, and for a
        sliced Wasserstein distance above it also between samples and held-out points, whichever is
        larger. A value below its floor cannot be distinguished from 0 with so many points.
    ksd2               squared kernel Stein discrepancy of the held-out points to the model, without
        samples; its floor is the 95 % quantile under random signs, which is that of a model with
        the true score; see `stein.py`
    fisher_divergence  mean ||s_model - s_true||^2 over the held-out points, where the true density
        is known and differentiable
    mode_coverage, mode_weights_samples, mode_kl_samples   where modes are known: the fraction of
        modes with at least a tenth of their true weight in the samples, the fraction of samples
        nearest to each mode, and KL(true weights || these). For the KL one point more, distributed
        as the true density, keeps the value finite if a mode is missed; its expectation for exact
        samples is about (modes - 1) / (2 points). `mode_weights` and `mode_kl` are those of the
        model itself: where only those of the samples are wrong, the chains do not mix.
    mode_weights_data, mode_weights_samples   where no modes are known and the real points fall into
        parts that are far apart (`find_clusters`): the fraction of real points and of samples in
        each
    mode_weight_error, mode_weight_error_se   of either kind of weights, the largest difference, in
        standard errors, and its standard error
    temperature_fitted, temperature_fitted_se   of the samples; see `temperature.py`
    pseudo_likelihood, pseudo_likelihood_se   of binary states: sum over sites i of log p(x_i | all
        other x), a mean over held-out points, in nats, and its standard error. ksd2, weights of
        parts and temperature_fitted are of real numbers alone
    energy_gap   mean E / T of the samples minus that of the held-out points, in nats; near 0 for a
        model of the data whose chains are in equilibrium

    Everything is at the temperature T of the run. Samples of chains are not quite independent, less
    so if `points` is larger than `samples.chains`: floors and errors are then slightly too small.

    Args:
        every: updates between two evaluations, see `Evaluator`.
        points: largest number of samples, of held-out points and of training points; from 2 to
            100,000.
        projections: random directions of the sliced Wasserstein distance.
        shuffles: random sign vectors for each floor.
    """

    at_start: ClassVar[bool] = False

    every: WholeNumber
    points: Annotated[int, Ge(2), Le(100_000)] = 1000
    projections: Count = 100
    shuffles: Count = 100

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        """The metrics; none for an analytic landscape, which has no data to compare with."""
        dataset = inputs.dataset
        if dataset is None:
            return Evaluation({}, [])
        generator = inputs.cpu_generator("quality")
        energy = float64_copy(inputs.energy).cpu()
        samples = inputs.draw(self.points).to("cpu", torch.float64)
        train, holdout = choose_real_points(dataset, self.points, generator)
        metrics: dict[str, Metric] = {}
        warnings = []
        states = _states(inputs.support)
        comparable = len(holdout) >= 2
        real = inputs.support.space == "real"
        if not real:
            metrics |= pseudo_likelihood_metrics(energy, holdout, inputs.temperature)
        if comparable:
            signs = random_signs(len(holdout), self.shuffles, generator)
        if comparable and real:
            metrics |= _score_metrics(energy, holdout, inputs.temperature, dataset, signs)
        if not comparable:
            warnings.append(TOO_FEW_HOLDOUT)
        if warning := nonfinite_warning(samples.flatten(1).isfinite().all(1)):
            return Evaluation(metrics, [*warnings, warning])
        if comparable:
            directions = random_directions(
                self.projections, _one_hot(samples[:1], states).numel(), generator
            )
            x, y, z = (_one_hot(points, states) for points in (samples, train, holdout))
            metrics |= sample_metrics(x, y, z, directions, signs)
        if dataset.truth is not None and dataset.truth.modes is not None:
            x = dataset.standardization.to_data(samples)
            metrics |= _mode_metrics(x, dataset.truth, dataset.truth.modes, generator)
        elif comparable and real:
            metrics |= _cluster_metrics(samples, torch.cat([train, holdout]))
        metrics["energy_gap"] = energy_gap(energy, samples, holdout, inputs.temperature)
        if not real:
            return Evaluation(metrics, warnings)
        fitted = configurational_temperature(energy, samples, generator)
        if fitted is not None:
            metrics |= {"temperature_fitted": fitted.value, "temperature_fitted_se": fitted.error}
        return Evaluation(metrics, warnings + temperature_warnings(fitted, inputs.temperature))


def _states(support: Support) -> int | None:
    """The number of symbols of an alphabet; None: the points are no symbols."""
    return len(support.alphabet) if isinstance(support, Categorical) else None


def _one_hot(x: Tensor, states: int | None) -> Tensor:
    """Codes, (n, *event), as 0 and 1, (n, sites * states); others as they are."""
    if states is None:
        return x
    return torch.nn.functional.one_hot(x.flatten(1).long(), states).flatten(1).to(x)


def pseudo_likelihood_metrics(
    energy: nn.Module, x: Tensor, temperature: float
) -> dict[str, Metric]:
    """pseudo_likelihood and its standard error at points x of binary states, (n, *event): the mean
    of sum_i log p(x_i | all other x), in nats."""
    sites = torch.arange(x[0].numel())

    def total(part: Tensor) -> Tensor:
        return -conditional_nll(energy, part, sites, temperature).sum(1)

    with torch.no_grad():
        values = in_chunks(total, x, 64)
    metrics: dict[str, Metric] = {"pseudo_likelihood": float(values.mean())}
    if len(values) > 1:
        metrics["pseudo_likelihood_se"] = float(values.std()) / len(values) ** 0.5
    return metrics


def energy_gap(energy: nn.Module, samples: Tensor, holdout: Tensor, temperature: float) -> float:
    """mean E / T of samples, (m, *event), minus that of held-out points, (n, *event), in nats."""
    with torch.no_grad():
        means = [in_chunks(energy, x, 4096).mean() for x in (samples, holdout)]
    return float(means[0] - means[1]) / temperature


def nonfinite_warning(finite: Tensor) -> str | None:
    """A warning unless all samples are `finite`, (n,) bool; None otherwise."""
    n_invalid = int((~finite).sum())
    if not n_invalid:
        return None
    return (
        f"no sample quality: {n_invalid} of {len(finite)} samples are not finite; lower "
        "sampler.step_size, or set model.base_std"
    )


def choose_real_points(dataset: Dataset, limit: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """At most `limit` random training points and as many held-out points, (n, *event) each,
    standardized, float64.
    """
    n = min(limit, len(dataset.train), len(dataset.holdout))
    train, holdout = (
        dataset.standardization.to_standard(x[torch.randperm(len(x), generator=generator)[:n]])
        for x in (dataset.train, dataset.holdout)
    )
    return train, holdout


def _score_metrics(
    energy: nn.Module, x: Tensor, temperature: float, dataset: Dataset, signs: Tensor
) -> dict[str, Metric]:
    """ksd2, its floor and, where the true score is known, fisher_divergence at held-out points."""
    s, flat = scores(energy, x, temperature), x.flatten(1)
    both = torch.cat([unit_signs(len(x)), signs], 1)
    ksd2 = stein_discrepancies(flat, s.flatten(1), kernel_lengths(flat), both)
    metrics: dict[str, Metric] = {"ksd2": float(ksd2[0]), "ksd2_floor": null_quantile(ksd2[1:])}
    true = true_scores(dataset, x)
    if true is not None:
        metrics["fisher_divergence"] = fisher_divergence(s, true)
    return metrics


def sample_metrics(
    samples: Tensor, train: Tensor, holdout: Tensor, directions: Tensor, signs: Tensor
) -> dict[str, Metric]:
    """Two-sample distances and their floors, with the kernel lengths of the held-out points.

    Args:
        samples: (m, *event), standardized.
        train, holdout: (n, *event) each, standardized.
        directions: of the sliced Wasserstein distance, (projections, d).
        signs: for the floors, (n, shuffles).
    """
    samples, train, holdout = (x[: len(holdout)].flatten(1) for x in (samples, train, holdout))
    lengths = kernel_lengths(holdout)

    def distances(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        mmd2, energy_distance = kernel_discrepancies(x, holdout, lengths, w)
        return mmd2, energy_distance, sliced_wasserstein(x, holdout, directions, w)

    names = ("mmd2", "energy_distance", "sliced_wasserstein")
    values, nulls = distances(samples, unit_signs(len(holdout))), distances(train, signs)
    found = {name: float(value) for name, value in zip(names, values, strict=True)}
    floors = {name: null_quantile(null) for name, null in zip(names, nulls, strict=True)}
    name = names[-1]
    if found[name] > floors[name]:
        # With a heavy tail few points set the distance, which are not those of another sample.
        own = null_quantile(sliced_wasserstein(samples, holdout, directions, signs))
        floors[name] = max(floors[name], own)
    metrics: dict[str, Metric] = {}
    for name in names:
        metrics |= {name: found[name], f"{name}_floor": floors[name]}
    return metrics


def _mode_metrics(
    x: Tensor, truth: Density, modes: Modes, generator: Generator
) -> dict[str, Metric]:
    """Mode coverage, weights and KL of samples x, (n, *event), in the data's units."""
    n = len(x)
    true = _mode_weights(truth.sample(_N_TRUE_POINTS, generator), modes)
    weights = _mode_weights(x, modes)
    return {
        "mode_coverage": mode_coverage(true, weights),
        "mode_weights_samples": weights.tolist(),
        "mode_kl_samples": mass_kl(true, (n * weights + true) / (n + 1)),
        **_weight_error(true, weights, _N_TRUE_POINTS, n),
    }


def _cluster_metrics(samples: Tensor, real: Tensor) -> dict[str, Metric]:
    """Weights of the parts of real points in themselves and in samples; none if they have none."""
    real, samples = real[:_MAX_CLUSTERED].flatten(1), samples.flatten(1)
    if (clusters := find_clusters(real)) is None:
        return {}
    true, weights = clusters.weights_of(real), clusters.weights_of(samples)
    return {
        "mode_weights_data": true.tolist(),
        "mode_weights_samples": weights.tolist(),
        **_weight_error(true, weights, len(real), len(samples)),
    }


def _weight_error(true: Tensor, weights: Tensor, n_true: int, n: int) -> dict[str, Metric]:
    found = weight_error(true, weights, n_true, n)
    return {"mode_weight_error": found.value, "mode_weight_error_se": found.error}


def _mode_weights(x: Tensor, modes: Modes) -> Tensor:
    """Fraction of the points nearest to the centre of each mode, (modes,)."""
    return mode_masses(x, torch.full((len(x),), 1 / len(x), dtype=torch.float64), modes)
