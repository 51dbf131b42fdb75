"""Do the waves of the samples have the laws of the held-out ones?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from annotated_types import Ge, Le
from scipy.stats import ks_2samp
from torch import Tensor

from ebmtrain.evaluation.estimators.wave_fit import MIN_STEPS, Waves, fit_ragged_waves
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Metric
from ebmtrain.masks import finite_mask
from ebmtrain.types import Count

_NO_TEST = (
    "no test of waves: they are fitted to sequences (length, channels) of "
    f"{MIN_STEPS} steps or more"
)


@dataclass(frozen=True, kw_only=True)
class WaveTests:
    """The wave nearest to each sample and to each held-out sequence (`fit_ragged_waves`), every
    channel for itself, and two-sample tests of what was fitted. Estimates of both sides carry the
    same error, so that a p-value is uniform where the samples are of the data's own law.

    p_amplitude, p_frequency   Kolmogorov-Smirnov, exact or asymptotic as scipy chooses
    p_phase                    Kuiper, whose statistic is the same wherever the circle is cut: see
                               `kuiper_test`
    p_residual                 Kolmogorov-Smirnov, of the root mean square of what no wave explains
    residual, residual_data    its medians, of samples and of held-out sequences, in units of x
    wave_distance              the largest of the three tests' statistics for amplitude, frequency
                               and phase, from 0 to 1: the least is best, for `checkpoint.best`

    The p-values are those of independent samples: as many chains as points are needed, and chains
    that have forgotten where they began.

    Args:
        every: updates between two; none before the first, the last update always makes one.
        points: samples, and held-out sequences as far as there are some; from 10 to 100,000.
    """

    at_start: ClassVar[bool] = False
    ragged: ClassVar[bool] = True

    every: Count
    points: Annotated[int, Ge(10), Le(100_000)] = 1000

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        dataset = inputs.dataset
        if dataset is None:
            return Evaluation({}, [])
        event = tuple(dataset.holdout.shape[1:])
        if len(event) not in (1, 2) or event[0] < MIN_STEPS:
            return Evaluation(
                {}, [f"{_NO_TEST}, the data have shape {event}; choose evaluation=ais"]
            )
        generator = torch.Generator().manual_seed(inputs.generator("waves").initial_seed())
        order = torch.randperm(len(dataset.holdout), generator=generator)[: self.points]
        real = fit_ragged_waves(split_channels(dataset.holdout[order]))
        x = inputs.standardization.to_data(inputs.draw(self.points))
        ragged = any(points.isnan().any() for points in (dataset.train, dataset.holdout))
        lost = int((~(finite_mask(x) if ragged else x.isfinite().flatten(1).all(1))).sum())
        if lost:
            return Evaluation(
                {},
                [
                    f"{lost} of {len(x)} samples are not finite, and no waves: lower "
                    "sampler.step_size, or set model.base_std"
                ],
            )
        ours = fit_ragged_waves(split_channels(x))
        if not len(real.amplitude) or not len(ours.amplitude):
            return Evaluation({}, [f"{_NO_TEST}, the data have none"])
        return Evaluation(wave_metrics(ours, real), [])


def wave_metrics(ours: Waves, real: Waves) -> dict[str, Metric]:
    """The metrics of `WaveTests`."""
    tests = {
        "amplitude": _kolmogorov_smirnov(ours.amplitude, real.amplitude),
        "frequency": _kolmogorov_smirnov(ours.frequency, real.frequency),
        "phase": kuiper_test(ours.phase, real.phase),
    }
    residual = _kolmogorov_smirnov(ours.residual, real.residual)
    return {
        **{f"p_{name}": test.p for name, test in tests.items()},
        "p_residual": residual.p,
        "wave_distance": max(test.statistic for test in tests.values()),
        "residual": float(ours.residual.median()),
        "residual_data": float(real.residual.median()),
    }


def split_channels(x: Tensor) -> Tensor:
    """(n, length, channels) or (n, length) -> (n * channels, length)."""
    return x if x.ndim == 2 else x.transpose(1, 2).flatten(0, 1)


class TwoSampleTest(NamedTuple):
    """Of two samples."""

    statistic: float
    p: float


def _kolmogorov_smirnov(a: Tensor, b: Tensor) -> TwoSampleTest:
    """Of numbers a, (n,), and b, (m,)."""
    found = ks_2samp(a.numpy(), b.numpy())
    return TwoSampleTest(float(found.statistic), float(found.pvalue))  # type: ignore[union-attr]


def kuiper_test(a: Tensor, b: Tensor) -> TwoSampleTest:
    """Of angles a, (n,), and b, (m,), in [0, 2 pi): are they of one law on the circle?

    V = max(F_a - F_b) + max(F_b - F_a), and P(V > v) = 2 sum_j (4 j^2 l^2 - 1) exp(-2 j^2 l^2) with
    l = (sqrt(k) + 0.155 + 0.24 / sqrt(k)) v, k = n m / (n + m) (Stephens, J. R. Stat. Soc. B 32,
    1970). Asymptotic: for n and m of 50 or more it is good to a few percent.
    """
    every = torch.cat([a, b]).sort().values
    of_a, of_b = (
        torch.searchsorted(part.sort().values, every, right=True).double() / len(part)
        for part in (a, b)
    )
    # After the last angle both are 1: neither maximum is negative.
    v = float((of_a - of_b).max() + (of_b - of_a).max())
    root = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    squared = ((root + 0.155 + 0.24 / root) * v) ** 2
    if squared < 0.16:  # the series converges slowly there, and the answer is 1 to seven digits
        return TwoSampleTest(v, 1.0)
    terms = [(4 * j * j * squared - 1) * math.exp(-2 * j * j * squared) for j in range(1, 101)]
    return TwoSampleTest(v, min(1.0, max(0.0, 2 * sum(terms))))
