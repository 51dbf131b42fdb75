"""Figure of a metric of many runs against training cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ebmtrain.errors import counted
from ebmtrain.plots.scales import set_log_scale, set_robust_limits
from ebmtrain.plots.style import (
    DATA,
    GREEN,
    MODEL,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    SMALL_SIZE,
    escape_math,
    label_axes,
    new_figure,
)

_Line = Sequence[tuple[float, float]]
# Further groups are grey.
GROUP_COLOURS = (DATA, MODEL, GREEN, PURPLE, ORANGE, SKY_BLUE, "#000000", "#B8A800")
_OTHERS_COLOUR = "#BBBBBB"
MIN_LOG_NATS = 1e-3  # smaller values are dominated by noise and may be negative
_MIN_LOG_COST_RATIO = 20.0  # of the largest to the smallest final cost, for a logarithmic axis
_MAX_LABEL_LETTERS = 44  # of a label in the legend


class DatasetCurves(NamedTuple):
    """The curves of one data set, with one panel for each cost."""

    title: str
    metric: str
    """Name and unit of the metric."""
    panels: Mapping[str, Mapping[str, Sequence[_Line]]]
    """cost -> label of a group, best first -> one line per seed, a sequence of (cost, metric)."""
    log: bool


def comparison(curves: Sequence[DatasetCurves], note: str = "") -> Figure:
    """One row of panels per data set. Thin lines are seeds, thick lines their median."""
    if not curves:
        figure = new_figure(6.0, 3.0)
        figure.text(0.5, 0.5, "no run was evaluated while it trained", ha="center", va="center")
        return figure
    figure = new_figure(13.0, 0.4 + 3.9 * len(curves), note)
    for i, row in enumerate(curves):
        for j, (cost, groups) in enumerate(row.panels.items()):
            axes = figure.add_subplot(len(curves), len(row.panels), i * len(row.panels) + j + 1)
            _draw_panel(axes, groups, row.log)
            values = [y for lines in groups.values() for line in lines for _, y in line]
            clipped = row.log and min(values, default=1.0) < MIN_LOG_NATS
            metric = f"{row.metric}, not below {MIN_LOG_NATS:g}" if clipped else row.metric
            label_axes(axes, title=row.title, x=cost, y=metric)
            axes.grid(alpha=0.25, linewidth=0.6)
            if j == len(row.panels) - 1 and groups:
                axes.legend(
                    fontsize=SMALL_SIZE, edgecolor="none", loc="upper left",
                    bbox_to_anchor=(1.0, 1.0),
                )  # fmt: skip
    return figure


def _draw_panel(axes: Axes, groups: Mapping[str, Sequence[_Line]], log: bool) -> None:
    """One panel with all groups; the best ones are coloured and in front of the others."""
    arrays = {name: [np.array(line, dtype=float) for line in lines]
              for name, lines in groups.items()}  # fmt: skip
    if not arrays:
        axes.text(0.5, 0.5, "not logged", ha="center", va="center", transform=axes.transAxes)
        return
    ends = [line[-1, 0] for lines in arrays.values() for line in lines]
    if max(ends) > _MIN_LOG_COST_RATIO * max(min(ends), 1e-9):
        arrays = {name: [line[line[:, 0] > 0] for line in lines] for name, lines in arrays.items()}
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    for lines in arrays.values():
        for line in lines:
            line[:, 1] = np.maximum(line[:, 1], MIN_LOG_NATS) if log else line[:, 1]
    values = np.concatenate([line[:, 1] for lines in arrays.values() for line in lines])
    if len(values):
        set_log_scale(axes, values) if log else set_robust_limits(axes, values)
    others = len(arrays) - len(GROUP_COLOURS)
    for k, (name, lines) in enumerate(arrays.items()):
        best = k < len(GROUP_COLOURS)
        label = counted(others, "other") if k == len(GROUP_COLOURS) else None
        if best:
            half = _MAX_LABEL_LETTERS // 2
            cut = len(name) > _MAX_LABEL_LETTERS
            label = escape_math(f"{name[:half]} … {name[-half:]}" if cut else name)
        colour, width, zorder = (GROUP_COLOURS[k], 2.0, 3.0) if best else (_OTHERS_COLOUR, 1.0, 2.0)
        lines = [line for line in lines if len(line)]
        for x, y in (line.T for line in lines if len(lines) > 1):
            axes.plot(x, y, color=colour, linewidth=width / 3, alpha=0.5, zorder=zorder)
        if lines:
            middle = _median_curve(lines, log) if len(lines) > 1 else lines[0]
            size = 3 if len(middle) < 40 and best else 0
            axes.plot(
                *middle.T, color=colour, linewidth=width, zorder=zorder + 0.5, label=label,
                marker="o", markersize=size,
            )  # fmt: skip


def _median_curve(lines: Sequence[np.ndarray], log: bool) -> np.ndarray:
    """Median of the lines at each cost that is in the range of all lines, (n, 2) of cost and
    median. The lines are interpolated linearly, on a logarithmic scale if `log`.
    """
    low, high = max(line[0, 0] for line in lines), min(line[-1, 0] for line in lines)
    x = np.unique(np.concatenate([line[:, 0] for line in lines]))
    x = x[(x >= low) & (x <= high)]
    values = [np.interp(x, line[:, 0], np.log(line[:, 1]) if log else line[:, 1]) for line in lines]
    if not len(x):  # the ranges do not overlap
        return np.empty((0, 2))
    middle = np.median(values, axis=0)
    return np.column_stack([x, np.exp(middle) if log else middle])
