"""Two-sample tests of the amplitude, frequency and phase of samples and held-out sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ebmtrain.evaluation.estimators.wave_fit import MIN_STEPS, Waves, fit_ragged_waves
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Metric
from ebmtrain.masks import finite_mask
from ebmtrain.types import WholeNumber

_NO_TEST = f"no test of waves: it needs sequences (length, channels) of {MIN_STEPS} steps or more"


@dataclass(frozen=True, kw_only=True)
class WaveTests:
    """Two-sample tests of the parameters of the sine wave fitted to each sample and each held-out
    sequence (`fit_ragged_waves`), separately for every channel. The estimates of both sides carry
    the same error, so that a p-value is uniform if the samples have the distribution of the data.

    p_amplitude, p_frequency   Kolmogorov-Smirnov, exact or asymptotic as scipy chooses
    p_phase                    Kuiper, whose statistic does not depend on the origin of the circle;
                               see `_kuiper_test`
    p_residual                 Kolmogorov-Smirnov, of the root mean square of the residual
    residual, residual_data    median root mean square of the residual of samples and of held-out
                               sequences, in units of x
    wave_distance              the largest of the statistics for amplitude, frequency and phase, in
                               [0, 1], smaller is better; for `checkpoint.best`

    The p-values assume independent samples: as many chains as points, each long enough to be
    independent of its start.

    Args:
        every: updates between two evaluations, see `Evaluator`.
        points: number of samples, and the largest number of held-out sequences; from 10 to 100,000.
    """

    at_start: ClassVar[bool] = False
    ragged: ClassVar[bool] = True

    every: WholeNumber
    points: Annotated[int, Ge(10), Le(100_000)] = 1000

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        dataset = inputs.dataset
        if dataset is None:
            return Evaluation({}, [])
        event = tuple(dataset.holdout.shape[1:])
        if len(event) not in (1, 2) or event[0] < MIN_STEPS:
            notice = f"{_NO_TEST}; the data have shape {event}; choose evaluation=ais"
            return Evaluation({}, [notice])
        generator = inputs.cpu_generator("waves")
        order = torch.randperm(len(dataset.holdout), generator=generator)[: self.points]
        real = fit_ragged_waves(_split_channels(dataset.holdout[order]))
        x = inputs.standardization.to_data(inputs.draw(self.points))
        ragged = any(points.isnan().any() for points in (dataset.train, dataset.holdout))
        finite = finite_mask(x) if ragged else x.isfinite().flatten(1).all(1)
        if not finite.all():
            notice = (
                f"no test of waves: {int((~finite).sum())} of {len(x)} samples are not finite; "
                "lower sampler.step_size, or set model.base_std"
            )
            return Evaluation({}, [notice])
        ours = fit_ragged_waves(_split_channels(x))
        if not len(real.amplitude) or not len(ours.amplitude):
            return Evaluation({}, [f"{_NO_TEST}; the data have none"])
        return Evaluation(_wave_metrics(ours, real), [])


def _wave_metrics(ours: Waves, real: Waves) -> dict[str, Metric]:
    """The metrics of `WaveTests`.

    Args:
        ours: waves fitted to the samples.
        real: waves fitted to the held-out sequences.
    """
    tests = {
        "amplitude": _kolmogorov_smirnov(ours.amplitude, real.amplitude),
        "frequency": _kolmogorov_smirnov(ours.frequency, real.frequency),
        "phase": _kuiper_test(ours.phase, real.phase),
    }
    residual = _kolmogorov_smirnov(ours.residual, real.residual)
    return {
        **{f"p_{name}": test.p for name, test in tests.items()},
        "p_residual": residual.p,
        "wave_distance": max(test.statistic for test in tests.values()),
        "residual": float(ours.residual.median()),
        "residual_data": float(real.residual.median()),
    }


def _split_channels(x: Tensor) -> Tensor:
    """Channels as separate sequences, (n, length, channels) or (n, length) -> (n * channels,
    length).
    """
    return x if x.ndim == 2 else x.transpose(1, 2).flatten(0, 1)


class _TwoSampleTest(NamedTuple):
    """The result of a two-sample test."""

    statistic: float
    p: float


def _kolmogorov_smirnov(a: Tensor, b: Tensor) -> _TwoSampleTest:
    """Kolmogorov-Smirnov test of a, (n,), and b, (m,)."""
    from scipy.stats import ks_2samp  # a second to import

    test = ks_2samp(a.numpy(), b.numpy())
    return _TwoSampleTest(float(test.statistic), float(test.pvalue))  # type: ignore[union-attr]


def _kuiper_test(a: Tensor, b: Tensor) -> _TwoSampleTest:
    """Kuiper's test of angles a, (n,), and b, (m,), in [0, 2 pi): do they have the same
    distribution on the circle?

    V = max(F_a - F_b) + max(F_b - F_a), and P(V > v) = 2 sum_j (4 j^2 l^2 - 1) exp(-2 j^2 l^2) with
    l = (sqrt(k) + 0.155 + 0.24 / sqrt(k)) v, k = n m / (n + m) (Stephens, J. R. Stat. Soc. B 32,
    1970). Asymptotic: accurate to a few percent for n, m >= 50.
    """
    angles = torch.cat([a, b]).sort().values
    cdf_a, cdf_b = (
        torch.searchsorted(part.sort().values, angles, right=True).double() / len(part)
        for part in (a, b)
    )
    # Both are 1 at the last angle, so that neither maximum is negative.
    v = float((cdf_a - cdf_b).max() + (cdf_b - cdf_a).max())
    root = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    squared = ((root + 0.155 + 0.24 / root) * v) ** 2
    if squared < 0.16:  # the series converges slowly, and the p-value is 1 to seven digits
        return _TwoSampleTest(v, 1.0)
    terms = [(4 * j * j * squared - 1) * math.exp(-2 * j * j * squared) for j in range(1, 101)]
    return _TwoSampleTest(v, min(1.0, max(0.0, 2 * sum(terms))))
