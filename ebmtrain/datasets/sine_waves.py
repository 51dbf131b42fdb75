"""Noisy sine waves with known distributions of amplitude, frequency and phase."""

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

    A, f and phi are independent for every channel of every sequence.

    Args:
        amplitude: distribution of A, in units of x.
        frequency: distribution of f, in periods per sequence. |f| <= length / 2 (Nyquist).
        phase: distribution of phi, in radians at t = 0.
        std: >= 0, of the noise at each step, in units of x. With 0 the sequences have no density;
            set `method.data_noise` then.
        length: steps L of a sequence, from 4 to 10,000.
        channels: independent waves per sequence, from 1 to 1,000.
        n_train, n_holdout: numbers of training and held-out sequences.
        standardize: scale every step to mean 0 and standard deviation 1 over the training
            sequences; whiten: also uncorrelated.
        seed: of both samples.

    Raises:
        ValueError: a frequency above length / 2.
        DataError: too few sequences for whitening.
    """

    def sample(count: int, generator: Generator) -> Tensor:
        shape = (count, 1, channels)
        a, f, phi = (
            distribution.sample(shape, generator) for distribution in (amplitude, frequency, phase)
        )
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

    train = sample(n_train, stream(seed, "train"))
    holdout = sample(n_holdout, stream(seed, "holdout"))
    return Points(train, holdout, standardization=REAL.standardization(train, standardize))
