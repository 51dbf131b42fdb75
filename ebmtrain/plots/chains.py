"""How chains move: what they do, how long they remember it, and what their draws are worth."""

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
)

_N_CHAINS = 4  # chains drawn one by one, and curves that have a colour of their own
_COLOURS = (DATA, MODEL, GREEN, ORANGE)
_BAND_PERCENTILES = (5, 95)  # percentiles of all chains and draws


class ChainFigureData(NamedTuple):
    """What is drawn; every array is finite."""

    names: Sequence[str]
    """Of the quantities, the energy first."""
    series: np.ndarray
    """(quantities, chains, draws)"""
    unit: str
    """Of the quantities beside the energy."""
    thin: int
    """Steps between two draws."""
    rhat: np.ndarray
    """(quantities,)"""
    correlations: np.ndarray
    """(quantities, lags), from lag 0."""
    lengths: Sequence[int]
    """Draws of each chain at which the effective sample sizes below are known."""
    bulk: Sequence[float]
    tail: Sequence[float]
    """Of the quantity that mixes worst."""
    ages: np.ndarray | None
    """Steps since the last restart, one of each persistent chain; None: none are kept."""


def chains(shown: ChainFigureData, limits: Mapping[str, float], title: str = "") -> Figure:
    """Traces, autocorrelations, R-hat, effective sample sizes and ages.

    Args:
        limits: `rhat` and `ess`, beyond which chains are said not to mix.
        title: above the figure.
    """
    figure = new_figure(12.4, 6.1, title)
    panels = [figure.add_subplot(2, 3, i + 1) for i in range(5 + (shown.ages is not None))]
    worst = 1 + int(shown.rhat[1:].argmax())
    _draw_traces(panels[0], shown, 0, "E / T in nats")
    _draw_traces(panels[1], shown, worst, shown.unit)
    _draw_correlations(panels[2], shown)
    _draw_growth(panels[3], shown, limits["ess"])
    _draw_rhat(panels[4], shown, limits["rhat"])
    if shown.ages is not None:
        _draw_ages(panels[5], shown.ages)
    for axes in panels:
        axes.grid(alpha=0.25, linewidth=0.6)
    return figure


def _draw_traces(axes: Axes, shown: ChainFigureData, quantity: int, unit: str) -> None:
    """Some chains over the band that holds most draws of all of them."""
    values = shown.series[quantity]
    n = len(values)
    steps = shown.thin * np.arange(1, values.shape[1] + 1)
    axes.axhspan(*np.percentile(values, _BAND_PERCENTILES), color=SKY_BLUE, alpha=0.18, linewidth=0)
    some = np.linspace(0, n - 1, min(_N_CHAINS, n)).astype(int)
    for chain, colour in zip(some, _COLOURS, strict=False):
        axes.plot(steps, values[chain], color=colour, linewidth=0.7, alpha=0.85)
    title = f"{shown.names[quantity]}: {len(some)} of {n} chains, 90 % of all draws"
    label_axes(axes, title=title, x="steps after the burn-in", y=unit)


def _draw_correlations(axes: Axes, shown: ChainFigureData) -> None:
    """The slowest quantities in colour, the others in grey."""
    lags = shown.thin * np.arange(shown.correlations.shape[1])
    slowest = np.argsort(-shown.correlations.sum(1), kind="stable")
    axes.axhline(0, color=GREY, linewidth=0.7)
    for rank, quantity in enumerate(slowest):
        colour = _COLOURS[rank] if rank < _N_CHAINS else GREY
        name, width = (shown.names[quantity], 1.4) if rank < _N_CHAINS else (None, 0.6)
        axes.plot(lags, shown.correlations[quantity], color=colour, linewidth=width, label=name)
    label_axes(axes, title="autocorrelation about the mean of all chains", x="steps apart")
    axes.set_ylim(min(-0.1, float(shown.correlations.min()) - 0.05), 1.03)
    axes.legend(fontsize=SMALL_SIZE, edgecolor="none", framealpha=0.8)


def _draw_growth(axes: Axes, shown: ChainFigureData, least: float) -> None:
    """Effective draws against draws: a straight line where they mix, flat where they do not."""
    n = np.array(shown.lengths) * shown.series.shape[1]
    for values, name, colour in ((shown.bulk, "bulk", DATA), (shown.tail, "tail", MODEL)):
        axes.plot(n, values, color=colour, marker="o", markersize=3, linewidth=1.4, label=name)
    axes.axhline(least, color=GREY, linestyle="--", linewidth=1.0, label="least to be trusted")
    axes.set_ylim(0, 1.08 * max(least, *shown.bulk, *shown.tail))
    label_axes(axes, title="effective sample size, the worst", x="draws of all chains")
    axes.legend(fontsize=SMALL_SIZE, edgecolor="none", framealpha=0.8)


def _draw_rhat(axes: Axes, shown: ChainFigureData, most: float) -> None:
    """On a logarithmic scale of what is above 1."""
    places = np.arange(len(shown.names))
    excess = np.maximum(shown.rhat - 1, 1e-4)
    colours = [MODEL if value > most else DATA for value in shown.rhat]
    axes.scatter(excess, places, color=colours, s=28, zorder=3)
    axes.axvline(most - 1, color=GREY, linestyle="--", linewidth=1.0)
    axes.set_xscale("log")
    axes.set_xlim(min(5e-5, excess.min() / 2), max(0.3, 2 * excess.max()))
    axes.set_yticks(places, [f"{name}  {r:.3g}" if r >= 10 else f"{name}  {r:.3f}"
                             for name, r in zip(shown.names, shown.rhat, strict=True)])  # fmt: skip
    axes.set_ylim(len(places) - 0.5, -0.5)
    label_axes(axes, title=f"split R-hat (beyond {most:g}: do not mix)", x="R-hat - 1")


def _draw_ages(axes: Axes, ages: np.ndarray) -> None:
    """How many persistent chains are how old."""
    bins = np.linspace(0, max(float(ages.max()), 1.0), 31)
    axes.hist(ages, bins=list(bins), color=DATA, alpha=0.8)
    mean = float(ages.mean())
    axes.axvline(mean, color=GREY, linestyle="--", linewidth=1.0, label=f"mean {mean:.4g}")
    label_axes(axes, title="ages of the persistent chains", x="steps since the restart", y="chains")
    axes.legend(fontsize=SMALL_SIZE, edgecolor="none", framealpha=0.8)
