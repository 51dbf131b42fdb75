"""Sequences as curves, data in one row and samples in another, with their energies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ebmtrain.masks import finite_mask
from ebmtrain.plots.energies import draw_energy_histograms
from ebmtrain.plots.style import DATA, GREY, MODEL, label_axes, new_figure
from ebmtrain.plots.window import fit_interval

N_SEQUENCES = 6  # per row, one panel each
_MAX_CHANNELS = 4  # per panel; more curves would hide each other
_STYLES = ("-", "--", "-.", ":")  # of the channels
_MAX_HISTOGRAM_POINTS = 2000


def traces(
    data: Tensor | None,
    model_samples: Tensor,
    title: str = "",
    *,
    energy: Callable[[Tensor], Tensor],
) -> Figure:
    """A row of sequences of the data and a row of samples, with the same limits, each with its
    energy, and histograms of the energies of both.

    The sequences shown are evenly spaced in the order of their energies, from lowest to highest,
    for data and samples alike: both rows should look alike from left to right.

    Args:
        data: (n, length, channels), or None; NaN at missing steps at the end of a sequence, where
            its curve ends.
        model_samples: (m, length, channels), in the data's units.
        energy: (batch, length, channels) -> (batch,), in nats.

    Raises:
        ValueError: no sample is finite.
    """
    groups = {"data": data, "model samples": model_samples}
    doubles = {name: x.detach().cpu().double() for name, x in groups.items() if x is not None}
    shown = {name: x[finite_mask(x)] for name, x in doubles.items()}
    if not len(shown["model samples"]):
        raise ValueError(f"traces need a finite sample, got none of {len(model_samples)}")
    values = {
        name: energy(x[:_MAX_HISTOGRAM_POINTS]).detach().double() for name, x in shown.items()
    }
    channels = min(model_samples.shape[2], _MAX_CHANNELS)
    if model_samples.shape[2] > channels:
        notice = f"the first {channels} of {model_samples.shape[2]} channels"
        title = f"{title}\n{notice}" if title else notice
    figure = new_figure(2.0 * N_SEQUENCES + 3.4, 0.9 + 2.1 * len(shown), title)
    grid = figure.add_gridspec(
        len(shown), N_SEQUENCES + 2, width_ratios=[1.0] * N_SEQUENCES + [0.9, 0.9]
    )
    first = next(iter(shown.values()))[..., :channels]
    view = fit_interval(first[first.isfinite()], 0.15)
    for row, (name, x) in enumerate(shown.items()):
        indices = _evenly_by_energy(values[name], N_SEQUENCES)
        for column, i in enumerate(indices):
            axes, last = figure.add_subplot(grid[row, column]), row == len(shown) - 1
            _draw_trace(axes, x[i, :, :channels], view, DATA if name == "data" else MODEL)
            axes.tick_params(labelleft=column == 0, labelbottom=last)
            label_axes(
                axes, title=f"E = {float(values[name][i]):.4g}", y=name if column == 0 else "",
                x="time step" if last else "",
            )  # fmt: skip
    draw_energy_histograms(figure.add_subplot(grid[:, N_SEQUENCES:]), values)
    return figure


def _evenly_by_energy(energies: Tensor, count: int) -> Sequence[int]:
    """Indices of at most `count` points, evenly spaced in the order of their energies."""
    order = energies.argsort()
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return order[torch.from_numpy(places)].tolist()


def _draw_trace(axes: Axes, sequence: Tensor, view: tuple[float, float], colour: str) -> None:
    """One sequence, (length, channels), with markers if it has at most 64 steps."""
    marker = "o" if len(sequence) <= 64 else None
    axes.axhline(0, color=GREY, linewidth=0.5)
    for channel, style in zip(sequence.T.numpy(), _STYLES, strict=False):
        axes.plot(channel, style, color=colour, linewidth=1.1, marker=marker, markersize=2.2)
    axes.set_xlim(-0.05 * len(sequence), 1.05 * len(sequence) - 1)  # room for the longest sequence
    axes.set_ylim(*view)
