"""Axis limits and ticks of curves."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

_MIN_TRIMMED_VALUES = 8  # with fewer values all of them are shown
_TAIL_SHARE = 0.1  # fraction of values on each side that may be outside of the view


def set_log_scale(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic y axis, with plain numbers as ticks over less than two decades, where powers of
    ten would give no label.
    """
    axes.set_yscale("log")
    if values.max() < 100 * values.min():
        low, high = values.min() / 1.2, values.max() * 1.2
        axes.set_ylim(low, high)
        steps = (1, 2, 5) if high > 5 * low else (1, 1.5, 2, 3, 4, 5, 7)
        axes.yaxis.set_major_locator(LogLocator(subs=steps))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def set_robust_limits(axes: Axes, values: np.ndarray) -> tuple[float, float]:
    """Sets y limits (low, high) that exclude rare peaks, as of the first steps, and returns them;
    infinite ones for fewer than 8 values or without spread.
    """
    unlimited = -np.inf, np.inf
    if len(values) < _MIN_TRIMMED_VALUES:
        return unlimited
    low, high = np.quantile(values, (_TAIL_SHARE, 1 - _TAIL_SHARE))
    reach = 0.75 * (high - low)
    if reach <= 0:
        return unlimited
    bottom, top = max(values.min(), low - reach), min(values.max(), high + reach)
    padding = 0.05 * (top - bottom)
    return axes.set_ylim(bottom - padding, top + padding)
