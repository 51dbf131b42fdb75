"""Limits and ticks of curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

_MIN_TRIMMED_VALUES = 8  # values below which all of them are shown
_TAIL_SHARE = 0.1  # the share of values on each side that may be left out of view


class Limits(NamedTuple):
    """Values that a panel shows; what is lower or higher is marked at its edge."""

    low: float
    high: float


def set_log_scale(axes: Axes, values: np.ndarray) -> None:
    """Powers of ten; over less than two decades, plain numbers, or there would be no label."""
    axes.set_yscale("log")
    if values.max() < 100 * values.min():
        low, high = values.min() / 1.2, values.max() * 1.2
        axes.set_ylim(low, high)
        steps = (1, 2, 5) if high > 5 * low else (1, 1.5, 2, 3, 4, 5, 7)
        axes.yaxis.set_major_locator(LogLocator(subs=steps))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def set_robust_limits(axes: Axes, values: np.ndarray) -> Limits:
    """Keep rare peaks, as in the first steps, from flattening the curve to a line."""
    everything = Limits(-np.inf, np.inf)
    if len(values) < _MIN_TRIMMED_VALUES:
        return everything
    low, high = np.quantile(values, (_TAIL_SHARE, 1 - _TAIL_SHARE))
    reach = 0.75 * (high - low)
    if reach <= 0:
        return everything
    bottom, top = max(values.min(), low - reach), min(values.max(), high + reach)
    space = 0.05 * (top - bottom)
    axes.set_ylim(bottom - space, top + space)
    return Limits(bottom - space, top + space)


def set_step_limits(axes: Axes, steps: Sequence[float]) -> None:
    """The same steps in every panel, however rare its metric."""
    first, last = (float(bound(steps)) for bound in (min, max))
    space = 0.03 * (last - first) or 0.5
    axes.set_xlim(first - space, last + space)
