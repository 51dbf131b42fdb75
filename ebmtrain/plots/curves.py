"""Figure of metrics against training steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ebmtrain.plots.scales import set_log_scale, set_robust_limits
from ebmtrain.plots.style import (
    DATA,
    GREEN,
    GREY,
    MODEL,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    SMALL_SIZE,
    label_axes,
    new_figure,
)

MetricRows = Sequence[Mapping[str, float]]
MIN_KL_NATS = 1e-4  # smaller estimates are noise and may be 0
_MIN_SMOOTHED_ROWS = 200  # from which a running mean is drawn over the pale raw curve
_COLOUR_ORDER = (DATA, MODEL, GREEN, SKY_BLUE, ORANGE)


class _MetricPanel(NamedTuple):
    """Metric keys that share one panel, and their names in its legend."""

    title: str
    label: str
    """Of the y axis."""
    keys: Mapping[str, str]
    scale: Literal["linear", "log", "unit"] = "linear"
    """unit: the interval [0, 1]."""
    floor: float = 0.0
    """On a logarithmic scale, smaller values are drawn at this value; 0: they are outside."""
    decades: float = math.inf
    """On a logarithmic scale, the lower end is at most so many decades below the maximum of the
    lowest curve.
    """


class _Series(NamedTuple):
    """The finite values of one metric."""

    steps: np.ndarray
    values: np.ndarray
    fault: float | None
    """The first step with a value that is not finite; None: all values are finite."""


ENERGIES = _MetricPanel(
    "energies", "mean energy in nats", {"energy_data": "data", "energy_model": "model samples"}
)
# In order of preference; the first with values is drawn.
_QUALITY = (
    _MetricPanel("KL(data || model)", "KL in nats", {"kl": "KL"}, "log", MIN_KL_NATS),
    _MetricPanel("regret: NLL above the entropy", "regret in nats", {"regret": "regret"}),
    _MetricPanel("negative log-likelihood", "NLL in nats", {"nll": "NLL"}),
)
LOSS = _MetricPanel("loss", "loss", {"loss": "loss"})
_GRADIENT = _MetricPanel("gradient norm", "gradient norm", {"grad_norm": "gradient norm"}, "log")
_CHAIN = _MetricPanel(
    "chain", "fraction, from 0 to 1",
    {"acceptance": "steps accepted", "jump_acceptance": "jumps accepted",
     "swapped": "swaps accepted", "clipped": "clipped", "restarted": "restarted"}, "unit",
)  # fmt: skip
# The learning rate decays to nearly 0; without a bound on the decades it would take all the room.
_SIZES = _MetricPanel(
    "step sizes", "step size, learning rate",
    {"step_size": "chain step size", "lr": "learning rate"}, "log", decades=3,
)  # fmt: skip


def curves(rows: MetricRows, title: str = "", target: float | None = None) -> Figure:
    """One panel per group of metrics that the rows contain.

    Args:
        rows: each with `step` and any metrics. A key may be missing in some rows, since evaluations
            are rarer than log rows. Values that are not finite are left out, and the step of the
            first is marked.
        target: acceptance that the sampler's step size is adapted to.
    """
    panels = [panel for panel in (ENERGIES, LOSS, _GRADIENT, quality_panel(rows), _CHAIN, _SIZES)
              if panel is not None and has_metrics(rows, panel)]  # fmt: skip
    if not panels:
        figure = new_figure(6.0, 3.0, title)
        figure.text(0.5, 0.5, "no metrics yet", ha="center", va="center", fontsize=12)
        return figure
    columns = min(3, len(panels)) if len(panels) != 4 else 2
    lines = -(-len(panels) // columns)
    figure = new_figure(0.4 + 4.0 * columns, 0.5 + 2.8 * lines, title)
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(lines, columns, i + 1)
        if panel is _CHAIN and target is not None:
            axes.axhline(
                target, color=GREY, linestyle="--", linewidth=1.0, zorder=3, label="target"
            )
        draw_curves(axes, rows, panel)
    return figure


def quality_panel(rows: MetricRows) -> _MetricPanel | None:
    """The panel of KL if any row has it, else of regret, else of NLL, else None."""
    return next((panel for panel in _QUALITY if has_metrics(rows, panel)), None)


def has_metrics(rows: MetricRows, panel: _MetricPanel) -> bool:
    """Whether any row has any metric of the panel."""
    return any(key in row for row in rows for key in panel.keys)


def _finite_series(rows: MetricRows, key: str) -> _Series | None:
    """The finite values of the metric; None if no row has it."""
    pairs = [(float(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]
    if not pairs:
        return None
    steps, values = np.array(pairs).T
    finite = np.isfinite(values)
    fault = None if finite.all() else float(steps[~finite][0])
    return _Series(steps[finite], values[finite], fault)


def draw_curves(axes: Axes, rows: MetricRows, panel: _MetricPanel) -> None:
    """Draws one panel on the given axes."""
    candidates = {name: _finite_series(rows, key) for key, name in panel.keys.items()}
    shown = {name: series for name, series in candidates.items() if series is not None}
    values = np.concatenate([np.empty(0), *(series.values for series in shown.values())])
    low, high = _lowest_shown(panel, [series.values for series in shown.values()]), np.inf
    label = panel.label
    if low > 0:
        below = bool((values < low).any())
        set_log_scale(axes, np.maximum(values, low))
        if below and panel.floor:
            label = f"{label}, not below {low:g}"
            shown = {name: s._replace(values=s.values.clip(low)) for name, s in shown.items()}
        elif below:
            axes.set_ylim(low, 1.5 * values.max())
    elif panel.scale == "unit":
        axes.set_ylim(-0.03, 1.03)
    else:
        low, high = set_robust_limits(axes, values)
    for (name, series), colour in zip(shown.items(), _COLOUR_ORDER, strict=False):
        _draw_series(axes, series, name, colour)
    faults = [series.fault for series in shown.values() if series.fault is not None]
    if faults:
        axes.axvline(min(faults), color=PURPLE, linestyle=":", label="first value not finite")
    steps = [float(row["step"]) for row in rows]  # the same view for every panel
    padding = 0.03 * (max(steps) - min(steps)) or 0.5
    axes.set_xlim(min(steps) - padding, max(steps) + padding)
    _mark_values_outside(axes, shown, low, high)
    label_axes(axes, title=panel.title, x="training step", y=label)
    axes.grid(alpha=0.25, linewidth=0.6)
    if len(panel.keys) > 1 or faults:
        axes.legend(fontsize=SMALL_SIZE, edgecolor="none", framealpha=0.8)


def _lowest_shown(panel: _MetricPanel, curves: Sequence[np.ndarray]) -> float:
    """The smallest value to draw: positive on a logarithmic scale, -inf on a linear one."""
    positive = [values[values > 0] for values in curves if (values > 0).any()]
    if panel.scale != "log" or not positive:
        return -np.inf
    lowest = min(values.max() for values in positive) / 10**panel.decades
    return panel.floor or max(lowest, min(values.min() for values in positive))


def _draw_series(axes: Axes, series: _Series, name: str, colour: str) -> None:
    """Few values as dots on a line; many as a running mean over the pale raw curve."""
    steps, values = series.steps, series.values
    if len(steps) < _MIN_SMOOTHED_ROWS:
        size = 3 if len(steps) <= 40 else 0
        axes.plot(
            steps, values, color=colour, linewidth=1.4, marker="o", markersize=size, label=name
        )
        return
    axes.plot(steps, values, color=colour, linewidth=0.5, alpha=0.3)
    width = len(values) // 50
    mean = np.convolve(values, np.full(width, 1 / width), "valid")
    middle = steps[(width - 1) // 2 :][: len(mean)]
    axes.plot(middle, mean, color=colour, linewidth=1.4, label=name)


def _mark_values_outside(axes: Axes, shown: Mapping[str, _Series], low: float, high: float) -> None:
    """Triangles at the edge of the panel for values outside of it; the most distant one is labelled
    with its value.
    """
    at_edge = axes.get_xaxis_transform()  # x in steps, y from 0 to 1
    for sign, edge, height, marker in ((-1, low, 0, "v"), (1, high, 1, "^")):
        outside: list[tuple[float, float]] = []
        for (steps, values, _), colour in zip(shown.values(), _COLOUR_ORDER, strict=False):
            beyond = sign * (values - edge) > 0
            if beyond.any():
                axes.plot(
                    steps[beyond], np.full(beyond.sum(), height), transform=at_edge, color=colour,
                    linestyle="none", marker=marker, markersize=6, clip_on=False, zorder=4,
                )  # fmt: skip
                outside += zip(steps[beyond], values[beyond], strict=True)
        if outside:
            x, y = max(outside, key=lambda point: sign * point[1])
            left = x < np.mean(axes.get_xlim())
            axes.annotate(
                f"{y:.3g}", (x, height), xycoords=at_edge, xytext=(8 if left else -8, -sign * 10),
                textcoords="offset points", ha="left" if left else "right", va="center",
                fontsize=SMALL_SIZE, color=GREY, zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
            )  # fmt: skip
