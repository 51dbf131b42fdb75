"""Contour levels for energies of any range."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_N_LEVELS = 16
_MIN_CLIP_NATS = 10.0
"""Probability e^-10 relative to the maximum, below the reach of any reasonable sample size."""

ROUND_NUMBERS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


class ContourData(NamedTuple):
    """Energies and levels to draw."""

    heights: np.ma.MaskedArray
    """Energies above their minimum, clipped at 1.2 times the clip; masked where the energy is NaN
    or minus infinity.
    """
    levels: np.ndarray
    """(n_levels + 1,), from 0 to the clip."""
    clip: float
    clipped: bool
    """Whether some energy is above the clip."""


def contour_data(values: np.ndarray, at_data: np.ndarray | None = None) -> ContourData | None:
    """Clipped energies and contour levels; None if no energy is finite.

    The clip is the 99 % quantile of the energies at the data plus 5 nats, or without data the
    median over the grid, so that half of the view shows structure; rounded up to a round number, at
    least 10 nats, at most the largest finite energy.

    Levels grow quadratically, which makes the contours of a quadratic well equidistant: the bottom
    of a well is resolved even if the clip is thousands of nats.

    Args:
        values: energies on a grid, in nats.
        at_data: energies at the data, in nats.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return None
    floor = values[finite].min()
    heights = values - floor
    reference = np.empty(0) if at_data is None else at_data[np.isfinite(at_data)] - floor
    if reference.size:
        target = float(np.quantile(reference, 0.99)) + 5.0
    else:
        target = float(np.median(heights[finite]))
    highest = float(heights[finite].max())
    target = max(target, _MIN_CLIP_NATS)
    power = 10.0 ** math.floor(math.log10(target))
    clip = next(mark * power for mark in ROUND_NUMBERS if mark * power >= target * (1 - 1e-9))
    clip = min(clip, highest)
    clip = clip if clip > 0 else 1.0  # a constant energy needs two different levels too
    levels = clip * np.linspace(0, 1, _N_LEVELS + 1) ** 2
    undefined = np.isnan(values) | np.isneginf(values)
    clipped_heights = np.ma.masked_array(np.clip(heights, 0.0, 1.2 * clip), undefined)
    return ContourData(clipped_heights, levels, clip, bool((heights[~undefined] > clip).any()))


def round_ticks(clip: float, min_gap: float) -> list[float]:
    """Ticks at 1, 2 or 5 times powers of ten between 0 and the clip. Heights grow quadratically
    along the colour bar; ticks are at least `min_gap` of its length apart. 0 and the clip are the
    first and last.
    """
    low = math.floor(math.log10(clip)) - 3
    marks = [m * 10.0**p for p in range(low, low + 5) for m in (1, 2, 5)]
    ticks = [0.0]
    for mark in marks:
        position, previous = (math.sqrt(value / clip) for value in (mark, ticks[-1]))
        if previous + min_gap <= position <= 1 - min_gap:
            ticks.append(mark)
    return [*ticks, float(f"{clip:.3g}")]
