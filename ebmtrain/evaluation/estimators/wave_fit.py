"""Amplitude, frequency and phase of a sampled sequence, by least squares."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_GRID_PER_PERIOD = 8  # frequencies tried for each whole one
_GOLDEN_ITERATIONS = 30  # of the interval around the best of them, to 1e-7 periods
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_CHUNK_SEQUENCES = 4096  # sequences
MIN_STEPS = 5  # steps that a wave can be fitted to, and something is left


class Waves(NamedTuple):
    """x_t = A sin(2 pi f t / L + phi) + what is left, for t = 0 ... L - 1; each of shape (n,)."""

    amplitude: Tensor
    """A >= 0."""
    frequency: Tensor
    """f in periods per sequence, within [1/2, (L - 1) / 2]."""
    phase: Tensor
    """phi in [0, 2 pi), at t = 0."""
    residual: Tensor
    """Root mean square of what is left, over L - 3 degrees of freedom: three numbers are fitted."""


def fit_waves(x: Tensor) -> Waves:
    """The wave nearest to each sequence, min over A, f, phi of sum_t (x_t - A sin(...))^2.

    For a given f the best A and phi are linear least squares in sin and cos; f is the best of a
    grid of 8 per period, then a golden section between its neighbours. For noise of standard
    deviation s, the error of f is about s sqrt(6 / L) / (pi A) (Rife & Boorstyn, IEEE Trans. Inf.
    Theory 20, 1974), as long as there is more than a period.

    Args:
        x: (n, L), L >= 5, all finite; in float64.
    """
    return Waves(
        *map(torch.cat, zip(*map(_fit_chunk, x.double().split(_CHUNK_SEQUENCES)), strict=True))
    )


def fit_ragged_waves(x: Tensor) -> Waves:
    """`fit_waves` of sequences of different lengths, each on the steps that it has; f in periods
    per L steps for all of them. Those of fewer than 5 steps are left out.

    Args:
        x: (n, L), finite up to the end of each sequence and NaN from there on.
    """
    longest, steps = x.shape[1], (~x.isnan()).sum(1)
    found = [Waves(*x.new_zeros(4, 0, dtype=torch.float64))]
    for n in steps[steps >= MIN_STEPS].unique().tolist():
        waves = fit_waves(x[steps == n, :n])
        found.append(waves._replace(frequency=waves.frequency * (longest / n)))
    return Waves(*map(torch.cat, zip(*found, strict=True)))


def _fit_chunk(x: Tensor) -> Waves:
    length = x.shape[1]
    lowest, highest = 0.5, (length - 1) / 2  # slower or faster, sin and cos are nearly one
    grid = torch.linspace(
        lowest, highest, round((highest - lowest) * _GRID_PER_PERIOD) + 1, dtype=torch.float64
    )
    sin, cos = _basis(grid, length)
    best = grid[_least_squares(sin, cos, x @ sin.T, x @ cos.T).explained.argmax(1)]
    step = float(grid[1] - grid[0])
    low, high = (best - step).clamp(min=lowest), (best + step).clamp(max=highest)
    for _ in range(_GOLDEN_ITERATIONS):
        width = _GOLDEN_RATIO * (high - low)
        left, right = high - width, low + width
        better = _fit_at(x, left).explained > _fit_at(x, right).explained
        low, high = torch.where(better, low, left), torch.where(better, right, high)
    frequency = (low + high) / 2
    explained, along_sin, along_cos = _fit_at(x, frequency)
    left_over = (x.square().sum(1) - explained).clamp(min=0)
    return Waves(
        torch.hypot(along_sin, along_cos),
        frequency,
        torch.atan2(along_cos, along_sin).remainder(2 * math.pi),
        (left_over / (length - 3)).sqrt(),
    )


class _Fit(NamedTuple):
    explained: Tensor
    """Sum of squares that the wave accounts for."""
    along_sin: Tensor
    """A cos(phi)"""
    along_cos: Tensor
    """A sin(phi)"""


def _fit_at(x: Tensor, f: Tensor) -> _Fit:
    """For one frequency of each sequence, (n,)."""
    sin, cos = _basis(f, x.shape[1])
    return _least_squares(sin, cos, (sin * x).sum(1), (cos * x).sum(1))


def _basis(f: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """sin and cos of 2 pi f t / L, (frequencies, L)."""
    t = torch.arange(length, dtype=f.dtype)
    angle = 2 * math.pi / length * f[:, None] * t
    return angle.sin(), angle.cos()


def _least_squares(sin: Tensor, cos: Tensor, sx: Tensor, cx: Tensor) -> _Fit:
    """The normal equations, given the products of sin and of cos with the sequences."""
    ss, cc, sc = sin.square().sum(1), cos.square().sum(1), (sin * cos).sum(1)
    determinant = ss * cc - sc * sc
    a, b = (cc * sx - sc * cx) / determinant, (ss * cx - sc * sx) / determinant
    return _Fit(a * sx + b * cx, a, b)
