"""Sequences whose three numbers have laws that are known."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor

from ebmtrain.datasets.distributions import ScalarDistribution
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import Standardize
from ebmtrain.datasets.support import REAL
from ebmtrain.datasets.toy import SampleSize
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import NonNegative, WholeNumber

_Length = Annotated[int, Ge(4), Le(10_000)]
_Channels = Annotated[int, Ge(1), Le(1_000)]


def sine_waves(
    *,
    amplitude: ScalarDistribution,
    frequency: ScalarDistribution,
    phase: ScalarDistribution,
    std: NonNegative = 0.2,
    length: _Length = 32,
    channels: _Channels = 1,
    n_train: SampleSize = 10_000,
    n_holdout: SampleSize = 10_000,
    standardize: Standardize = True,
    seed: WholeNumber,
) -> Points:
    """x_t = A sin(2 pi f t / L + phi) + std * xi_t for t = 0 ... L - 1, xi_t ~ N(0, 1): two
    independent samples of sequences, each of shape (length, channels).

    A, f and phi are drawn anew for every channel of every sequence, independently.

    Args:
        amplitude: law of A, in units of x.
        frequency: law of f, in periods per sequence; |f| <= length / 2, or a wave could not be told
            from a slower one.
        phase: law of phi, in radians at t = 0.
        std: >= 0, of the noise at each step, in units of x. With 0 the sequences have no density:
            add `method.data_noise`.
        length: steps L of a sequence, from 4 to 10,000.
        channels: waves side by side, from 1 to 1,000.
        n_train, n_holdout: sequences to train on and to measure on.
        standardize: give models mean 0 and standard deviation 1 at every step over the training
            sequences; whiten: uncorrelated steps.
        seed: of both samples.

    Raises:
        ValueError: a law gives a frequency that the length cannot show.
        DataError: whitening too few sequences.
    """

    def drawn(count: int, generator: Generator) -> Tensor:
        shape = (count, 1, channels)
        a, f, phi = (law.sample(shape, generator) for law in (amplitude, frequency, phase))
        fastest = float(f.abs().max())
        if fastest > length / 2:
            raise ValueError(
                f"frequency has {fastest:.4g} periods per sequence, and {length} steps show at "
                f"most {length / 2:g}: lower dataset.frequency or raise dataset.length"
            )
        t = torch.arange(length, dtype=torch.float64)[:, None]
        wave = a * torch.sin(2 * math.pi / length * f * t + phi)
        noise = torch.randn(wave.shape, dtype=torch.float64, generator=generator)
        return wave + std * noise

    train = drawn(n_train, stream(seed, "train"))
    holdout = drawn(n_holdout, stream(seed, "holdout"))
    return Points(train, holdout, standardization=REAL.standardization(train, standardize))
