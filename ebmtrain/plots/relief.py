"""Energies of any range made fit for drawing, so that the wells are visible."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEVELS = 16
LEAST_CLIP = 10.0
"""In nats: probability e^-10 of the peak's, which no reasonable sample count reaches."""


class Relief(NamedTuple):
    """Energies made fit for drawing."""

    heights: np.ma.MaskedArray
    """Above the minimum, in [0, clip]; masked where the energy is NaN or minus infinity."""
    levels: np.ndarray
    """(LEVELS + 1,), from 0 to clip."""
    clip: float
    clipped: bool
    """Whether some height was above the clip."""


def relief(values: np.ndarray, at_data: np.ndarray | None = None) -> Relief | None:
    """Energies of a grid -> what to draw, or None where no energy is finite.

    The clip keeps the wells visible whatever the range is: where the energies at data are given,
    their 99 % quantile and 5 nats more; else the median over the view, so that half of it shows
    structure. Never below 10 nats, never above the highest energy there is.

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
    clip = min(max(wanted, LEAST_CLIP), highest)
    clip = clip if clip > 0 else 1.0  # a constant energy still needs two different levels
    levels = clip * np.linspace(0, 1, LEVELS + 1) ** 2
    hidden = np.isnan(values) | np.isneginf(values)
    drawn = np.ma.masked_array(np.clip(heights, 0.0, clip), hidden)
    return Relief(drawn, levels, clip, bool((heights[~hidden] > clip).any()))
