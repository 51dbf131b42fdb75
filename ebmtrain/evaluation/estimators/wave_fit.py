"""Least-squares fit of amplitude, frequency and phase of a sine wave to a sequence."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_GRID_PER_PERIOD = 8  # grid frequencies per period
_GOLDEN_ITERATIONS = 30  # reduce the interval to 1e-7 periods
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_CHUNK_SEQUENCES = 4096
MIN_STEPS = 5  # of a sequence: three parameters, and degrees of freedom for the residual


class Waves(NamedTuple):
    """x_t = A sin(2 pi f t / L + phi) + residual, for t = 0 ... L - 1; each of shape (n,)."""

    amplitude: Tensor
    """A >= 0."""
    frequency: Tensor
    """f in periods per sequence, within [1/2, (L - 1) / 2]."""
    phase: Tensor
    """phi in [0, 2 pi), at t = 0."""
    residual: Tensor
    """Root mean square of the residual, over L - 3 degrees of freedom, since three numbers are
    fitted.
    """


def _fit_waves(x: Tensor) -> Waves:
    """Least-squares fit of a wave to each sequence: min over A, f, phi of sum_t (x_t - A
    sin(...))^2.

    For a given f, A and phi are a linear least-squares solution in sin and cos. f is the best of a
    grid of 8 per period, refined by golden-section search between its neighbours. For noise of
    standard deviation s the error of f is about s sqrt(6 / L) / (pi A) (Rife & Boorstyn, IEEE
    Trans. Inf. Theory 20, 1974), if the sequence has more than one period.

    Args:
        x: (n, L), L >= 5, all finite; computed in float64.
    """
    return Waves(
        *map(torch.cat, zip(*map(_fit_chunk, x.double().split(_CHUNK_SEQUENCES)), strict=True))
    )


def fit_ragged_waves(x: Tensor) -> Waves:
    """`_fit_waves` for sequences of different lengths, each fitted on the steps that it has; f is
    in periods per L steps for all of them. x, (n, L), is finite up to the end of each sequence and
    NaN after it. Sequences of fewer than 5 steps are left out.
    """
    longest, steps = x.shape[1], (~x.isnan()).sum(1)
    fits = [Waves(*x.new_zeros(4, 0, dtype=torch.float64))]
    for n in steps[steps >= MIN_STEPS].unique().tolist():
        waves = _fit_waves(x[steps == n, :n])
        fits.append(waves._replace(frequency=waves.frequency * (longest / n)))
    return Waves(*map(torch.cat, zip(*fits, strict=True)))


def _fit_chunk(x: Tensor) -> Waves:
    """`_fit_waves` for one chunk, (n, L), float64."""
    length = x.shape[1]
    lowest, highest = 0.5, (length - 1) / 2  # outside, sin and cos are nearly collinear
    grid = torch.linspace(
        lowest, highest, round((highest - lowest) * _GRID_PER_PERIOD) + 1, dtype=torch.float64
    )
    best = grid[_fit_at(x, grid, pairs=True).explained.argmax(1)]
    step = float(grid[1] - grid[0])
    low, high = (best - step).clamp(min=lowest), (best + step).clamp(max=highest)
    for _ in range(_GOLDEN_ITERATIONS):
        width = _GOLDEN_RATIO * (high - low)
        left, right = high - width, low + width
        better = _fit_at(x, left).explained > _fit_at(x, right).explained
        low, high = torch.where(better, low, left), torch.where(better, right, high)
    frequency = (low + high) / 2
    explained, along_sin, along_cos = _fit_at(x, frequency)
    residual = (x.square().sum(1) - explained).clamp(min=0)
    return Waves(
        torch.hypot(along_sin, along_cos),
        frequency,
        torch.atan2(along_cos, along_sin).remainder(2 * math.pi),
        (residual / (length - 3)).sqrt(),
    )


class _Fit(NamedTuple):
    """Least-squares fit at given frequencies."""

    explained: Tensor
    """Sum of squares that the wave explains."""
    along_sin: Tensor
    """A cos(phi)"""
    along_cos: Tensor
    """A sin(phi)"""


def _fit_at(x: Tensor, f: Tensor, *, pairs: bool = False) -> _Fit:
    """Fit at one frequency for each sequence, (n,); if `pairs`, at every frequency for each one,
    (n, frequencies).
    """
    length = x.shape[1]
    angle = 2 * math.pi / length * f[:, None] * torch.arange(length, dtype=f.dtype)
    sin, cos = angle.sin(), angle.cos()
    sx, cx = (x @ wave.T if pairs else (wave * x).sum(1) for wave in (sin, cos))
    # The solution of the normal equations.
    ss, cc, sc = sin.square().sum(1), cos.square().sum(1), (sin * cos).sum(1)
    determinant = ss * cc - sc * sc
    a, b = (cc * sx - sc * cx) / determinant, (ss * cx - sc * sx) / determinant
    return _Fit(a * sx + b * cx, a, b)
