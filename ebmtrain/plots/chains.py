"""Figure of chain diagnostics: traces, autocorrelations, effective sample sizes, R-hat and ages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ebmtrain.plots.style import (
    DATA,
    GREEN,
    GREY,
    MODEL,
    ORANGE,
    SKY_BLUE,
    SMALL_SIZE,
    label_axes,
    new_figure,
    short_label,
)

_N_COLOURED = 4  # number of traces, and of coloured curves
_COLOURS = (DATA, MODEL, GREEN, ORANGE)
_MAX_AGE_BINS = 30
_BAND_PERCENTILES = (5, 95)  # of the draws of all chains


class ChainSummary(NamedTuple):
    """Statistics of chains, as drawn; every array is finite."""

    names: Sequence[str]
    """Names of the quantities, the energy first."""
    series: np.ndarray
    """(quantities, chains, draws)"""
    unit: str
    """Unit of the quantities other than the energy."""
    thin: int
    """Steps between two draws."""
    rhat: np.ndarray
    """(quantities,)"""
    correlations: np.ndarray
    """(quantities, lags), from lag 0."""
    lengths: Sequence[int]
    """Numbers of draws of each chain at which `bulk` and `tail` are given."""
    bulk: Sequence[float]
    tail: Sequence[float]
    """Effective sample sizes of the quantity of largest R-hat."""
    ages: np.ndarray | None
    """Steps since the last restart of each persistent chain, int64; None: the method has no
    persistent chains.
    """


def chains(data: ChainSummary, limits: Mapping[str, float], title: str = "") -> Figure:
    """Traces, autocorrelations, effective sample sizes, R-hat and ages of chains.

    Args:
        limits: `rhat`, the largest R-hat, and `ess`, the smallest effective sample size, of chains
            that mix.
    """
    data = data._replace(names=[short_label(name) for name in data.names])
    figure = new_figure(12.4, 6.1, title)
    panels = [figure.add_subplot(2, 3, i + 1) for i in range(5 + (data.ages is not None))]
    worst = 1 + int(data.rhat[1:].argmax())
    _draw_traces(panels[0], data, 0, "E / T in nats")
    _draw_traces(panels[1], data, worst, data.unit)
    _draw_correlations(panels[2], data)
    _draw_growth(panels[3], data, limits["ess"])
    _draw_rhat(panels[4], data, limits["rhat"])
    if data.ages is not None:
        _draw_ages(panels[5], data.ages)
    for axes in panels:
        axes.grid(alpha=0.25, linewidth=0.6)
    return figure


def _draw_traces(axes: Axes, data: ChainSummary, quantity: int, unit: str) -> None:
    """Traces of some chains over the band that contains 90 % of the draws of all chains."""
    values = data.series[quantity]
    n = len(values)
    steps = data.thin * np.arange(1, values.shape[1] + 1)
    axes.axhspan(*np.percentile(values, _BAND_PERCENTILES), color=SKY_BLUE, alpha=0.18, linewidth=0)
    indices = np.linspace(0, n - 1, min(_N_COLOURED, n)).astype(int)
    for chain, colour in zip(indices, _COLOURS, strict=False):
        axes.plot(steps, values[chain], color=colour, linewidth=0.7, alpha=0.85)
    title = f"{data.names[quantity]}: {len(indices)} of {n} chains; band: 90 % of all draws"
    label_axes(axes, title=title, x="chain steps after the burn-in", y=unit)


def _draw_correlations(axes: Axes, data: ChainSummary) -> None:
    """Autocorrelations, the slowest quantities in colour and the others in grey."""
    lags = data.thin * np.arange(data.correlations.shape[1])
    slowest = np.argsort(-data.correlations.sum(1), kind="stable")
    axes.axhline(0, color=GREY, linewidth=0.7)
    for rank, quantity in enumerate(slowest):
        colour = _COLOURS[rank] if rank < _N_COLOURED else GREY
        name, width = (data.names[quantity], 1.4) if rank < _N_COLOURED else (None, 0.6)
        axes.plot(lags, data.correlations[quantity], color=colour, linewidth=width, label=name)
    label_axes(axes, title="autocorrelation about the mean of all chains", x="lag in chain steps")
    axes.set_ylim(min(-0.1, float(data.correlations.min()) - 0.05), 1.03)
    axes.legend(fontsize=SMALL_SIZE, edgecolor="none", framealpha=0.8)


def _draw_growth(axes: Axes, data: ChainSummary, min_ess: float) -> None:
    """Effective sample size against the number of draws: linear if chains mix, constant if they do
    not.
    """
    n = np.array(data.lengths) * data.series.shape[1]
    for values, name, colour in ((data.bulk, "bulk", DATA), (data.tail, "tail", MODEL)):
        axes.plot(n, values, color=colour, marker="o", markersize=3, linewidth=1.4, label=name)
    axes.axhline(min_ess, color=GREY, linestyle="--", linewidth=1.0, label="smallest reliable size")
    axes.set_ylim(0, 1.08 * max(min_ess, *data.bulk, *data.tail))
    title = f"effective sample size: {data.names[int(data.rhat.argmax())]}"
    label_axes(axes, title=title, x="number of draws of all chains")
    axes.legend(fontsize=SMALL_SIZE, edgecolor="none", framealpha=0.8)


def _draw_rhat(axes: Axes, data: ChainSummary, max_rhat: float) -> None:
    """R-hat - 1 of each quantity, on a logarithmic scale."""
    places = np.arange(len(data.names))
    excess = np.maximum(data.rhat - 1, 1e-4)
    colours = [MODEL if value > max_rhat else DATA for value in data.rhat]
    axes.scatter(excess, places, color=colours, s=28, zorder=3)
    axes.axvline(max_rhat - 1, color=GREY, linestyle="--", linewidth=1.0)
    axes.set_xscale("log")
    axes.set_xlim(min(5e-5, excess.min() / 2), max(0.3, 2 * excess.max()))
    axes.set_yticks(places, [f"{name}  {r:.3g}" if r >= 10 else f"{name}  {r:.3f}"
                             for name, r in zip(data.names, data.rhat, strict=True)])  # fmt: skip
    axes.set_ylim(len(places) - 0.5, -0.5)
    title = f"split R-hat (above {max_rhat:g} chains do not mix)"
    label_axes(axes, title=title, x="R-hat - 1, shown as at least 0.0001")


def _draw_ages(axes: Axes, ages: np.ndarray) -> None:
    """Histogram of the ages of the persistent chains. Ages are multiples of the steps per update:
    each bin contains the same number of these, and no bin is empty by construction.
    """
    unit = int(np.gcd.reduce(ages)) or 1
    width = unit * (1 + int(ages.max()) // (unit * _MAX_AGE_BINS))
    edges = np.arange(0, int(ages.max()) + width + 1, width) - unit / 2
    axes.hist(ages, bins=edges.tolist(), color=DATA, alpha=0.8)
    mean = float(ages.mean())
    axes.axvline(mean, color=GREY, linestyle="--", linewidth=1.0, label=f"mean {mean:.4g}")
    label_axes(
        axes, title="ages of the persistent chains", x="chain steps since the last restart",
        y="number of chains",
    )  # fmt: skip
    axes.legend(fontsize=SMALL_SIZE, edgecolor="none", framealpha=0.8)
