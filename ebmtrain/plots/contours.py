"""Energies of any range made fit for drawing, so that the wells are visible."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_N_LEVELS = 16
_MIN_CLIP_NATS = 10.0
"""In nats: probability e^-10 of the peak's, which no reasonable sample count reaches."""

ROUND_NUMBERS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


class ContourData(NamedTuple):
    """Energies made fit for drawing."""

    heights: np.ma.MaskedArray
    """Above the minimum, cut off a little above the clip; masked where the energy is NaN or minus
    infinity."""
    levels: np.ndarray
    """(LEVELS + 1,), from 0 to clip."""
    clip: float
    clipped: bool
    """Whether some height was above the clip."""


def contour_data(values: np.ndarray, at_data: np.ndarray | None = None) -> ContourData | None:
    """Energies of a grid -> what to draw, or None where no energy is finite.

    The clip keeps the wells visible whatever the range is: where the energies at data are given,
    their 99 % quantile and 5 nats more; else the median over the view, so that half of it shows
    structure; rounded up. Never below 10 nats, never above the highest energy there is.

    Levels grow quadratically, which spaces the contours of a quadratic well evenly: the bottom
    of a well is resolved even where the clip is thousands of nats.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return None
    floor = values[finite].min()
    heights = values - floor
    reference = np.empty(0) if at_data is None else at_data[np.isfinite(at_data)] - floor
    if reference.size:
        wanted = float(np.quantile(reference, 0.99)) + 5.0
    else:
        wanted = float(np.median(heights[finite]))
    highest = float(heights[finite].max())
    clip = min(_round_up(max(wanted, _MIN_CLIP_NATS)), highest)
    clip = clip if clip > 0 else 1.0  # a constant energy still needs two different levels
    levels = clip * np.linspace(0, 1, _N_LEVELS + 1) ** 2
    hidden = np.isnan(values) | np.isneginf(values)
    drawn = np.ma.masked_array(np.clip(heights, 0.0, 1.2 * clip), hidden)
    return ContourData(drawn, levels, clip, bool((heights[~hidden] > clip).any()))


def _round_up(value: float) -> float:
    """The next round number, value > 0."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(mark * power for mark in ROUND_NUMBERS if mark * power >= value * (1 - 1e-9))


def round_ticks(clip: float, apart: float) -> list[float]:
    """1, 2 or 5 times powers of ten between 0 and the clip, at least `apart` of the bar from each
    other where heights grow quadratically along it; 0 and the clip are the first and the last."""
    low = math.floor(math.log10(clip)) - 3
    marks = [m * 10.0**p for p in range(low, low + 5) for m in (1, 2, 5)]
    ticks = [0.0]
    for mark in marks:
        there, before = (math.sqrt(value / clip) for value in (mark, ticks[-1]))
        if before + apart <= there <= 1 - apart:
            ticks.append(mark)
    return [*ticks, float(f"{clip:.3g}")]
