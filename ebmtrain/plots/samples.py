"""Histograms of data and samples in two dimensions, with known densities."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from ebmtrain.plots.grid import cell_counts, evaluate_on_grid
from ebmtrain.plots.points import label_with_outside
from ebmtrain.plots.style import COLORMAP, LABEL_SIZE, SMALL_SIZE, label_axes, new_figure
from ebmtrain.plots.window import Window
from ebmtrain.types import Density

_MIN_DENSITY_CELLS = 128  # along the longer side, for computed densities


class DensityPanel(NamedTuple):
    """One density to draw."""

    name: str
    density: np.ndarray
    """(rows, columns), probability per unit area."""
    split: int = 1
    """Cells per bin and axis: 1 for a histogram, more for a computed density."""


def samples(
    data: Tensor | None,
    model_samples: Tensor,
    window: Window,
    *,
    truth: Density | None = None,
    energy: Callable[[Tensor], Tensor] | None = None,
    title: str = "",
) -> Figure:
    """Histograms of data and samples on the same bins, and known densities, on one colour scale.

    Args:
        data: (n, 2), or None if only the energy is known.
        model_samples: (m, 2).
        window: the view; the total of a histogram includes points outside of it, so that it
            estimates the density.
        truth: the distribution of the data.
        energy: drawn as exp(-E), normalised on the window, if `data` is None.
        title: above the figure.
    """
    sizes = [len(points) for points in (data, model_samples) if points is not None]
    bins = cell_counts(window, bin_count(min(sizes)))
    split = max(2, -(-_MIN_DENSITY_CELLS // max(bins)))
    cells = (split * bins[0], split * bins[1])
    panels = []
    if data is not None:
        panels.append(
            DensityPanel(label_with_outside("data", data, window), histogram(data, window, bins))
        )
    sample_histogram = histogram(model_samples, window, bins)
    panels.append(
        DensityPanel(label_with_outside("model samples", model_samples, window), sample_histogram)
    )
    if truth is not None:
        density = np.exp(evaluate_on_grid(truth.log_prob, window, cells).values)
        panels.append(DensityPanel("true density", np.nan_to_num(density), split))
    if data is None and energy is not None:
        panels.append(
            DensityPanel("density of the energy", boltzmann_density(energy, window, cells), split)
        )
    return _side_by_side(panels, window, title)


def bin_count(count: int) -> int:
    """Number of bins along the longer side for `count` points: proportional to its cube root, in
    [16, 80].
    """
    return int(np.clip(round(3 * max(count, 1) ** (1 / 3)), 16, 80))


def histogram(points: Tensor, window: Window, bins: tuple[int, int]) -> np.ndarray:
    """Fraction of all n points in each bin, per unit area, (n, 2) -> (rows, columns)."""
    points = points.detach().cpu().double()
    inside = points[window.contains(points)].numpy()
    left, right, bottom, top = window.extent
    counts, _, _ = np.histogram2d(
        inside[:, 0], inside[:, 1], bins=bins, range=((left, right), (bottom, top))
    )
    area = (right - left) * (top - bottom) / (bins[0] * bins[1])
    return counts.T / (max(len(points), 1) * area)


def boltzmann_density(
    energy: Callable[[Tensor], Tensor], window: Window, cells: tuple[int, int]
) -> np.ndarray:
    """exp(-E) on a grid, with integral 1 over the window; 0 where the energy is not finite."""
    grid = evaluate_on_grid(energy, window, cells)
    heights = np.where(np.isfinite(grid.values), grid.values, np.inf)
    if not np.isfinite(heights).any():
        return np.zeros_like(heights)
    weights = np.exp(heights.min() - heights)
    return weights / (weights.sum() * grid.cell)


def _side_by_side(panels: list[DensityPanel], window: Window, title: str) -> Figure:
    """One row of panels with the same view and one colour bar."""
    width, height = window.shape
    aspect = min(max(height / width, 0.45), 1.6)
    figure = new_figure(0.9 + 3.7 * len(panels), 1.1 + 3.4 * aspect, title)
    rows = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)
    top = max(_max_bin_density(panels[0]), _max_bin_density(panels[-1]))
    image = None
    for axes, panel in zip(rows[0], panels, strict=True):
        image = _draw_density(axes, panel, window, top)
    rows[0][0].set_ylabel(window.names[1], fontsize=LABEL_SIZE)
    assert image is not None
    bar = figure.colorbar(image, ax=list(rows[0]), pad=0.01, extend="max")
    bar.ax.tick_params(labelsize=SMALL_SIZE)
    bar.set_label("probability per unit area", fontsize=LABEL_SIZE)
    return figure


def _max_bin_density(panel: DensityPanel) -> float:
    """The largest density after averaging over bins, comparable with a histogram."""
    split = panel.split
    rows, columns = (cells // split for cells in panel.density.shape)
    return float(panel.density.reshape(rows, split, columns, split).mean(axis=(1, 3)).max())


def _draw_density(axes: Axes, panel: DensityPanel, window: Window, top: float) -> AxesImage:
    """One density on the given axes, with colours from 0 to `top`."""
    image = axes.imshow(
        panel.density, origin="lower", extent=window.extent, aspect=window.aspect, cmap=COLORMAP,
        vmin=0.0, vmax=top or 1.0, interpolation="nearest",
    )  # fmt: skip
    label_axes(axes, title=panel.name, x=window.names[0])
    return image
