"""Limits and ticks of curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator


def scale_log(axes: Axes, values: np.ndarray) -> None:
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


def hold_view(axes: Axes, values: np.ndarray) -> None:
    """Keep rare peaks, as in the first steps, from flattening the curve to a line."""
    if len(values) < 20:
        return
    low, high = np.quantile(values, (0.01, 0.99))
    reach = 0.5 * (high - low)
    if reach <= 0:
        return
    bottom, top = max(values.min(), low - reach), min(values.max(), high + reach)
    space = 0.05 * (top - bottom)
    axes.set_ylim(bottom - space, top + space)


def hold_steps(axes: Axes, steps: Sequence[float]) -> None:
    """The same steps in every panel, however rare its metric."""
    first, last = (float(bound(steps)) for bound in (min, max))
    space = 0.03 * (last - first) or 0.5
    axes.set_xlim(first - space, last + space)
