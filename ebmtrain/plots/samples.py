"""Histograms of data and samples in two dimensions, with known densities."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from torch import Tensor

from ebmtrain.plots.grid import cell_counts, evaluate_on_grid
from ebmtrain.plots.points import label_with_outside
from ebmtrain.plots.style import COLORMAP, LABEL_SIZE, SMALL_SIZE, label_axes, new_figure
from ebmtrain.plots.window import Window
from ebmtrain.types import Density

_MIN_DENSITY_CELLS = 128  # along the longer side, for computed densities
_MIN_AREA = 0.01  # of the view, with half of the points; below, the colour scale is logarithmic


def samples(
    data: Tensor | None,
    model_samples: Tensor,
    window: Window,
    *,
    truth: Density | None = None,
    energy: Callable[[Tensor], Tensor] | None = None,
    title: str = "",
) -> Figure:
    """Histograms of data and samples on the same bins, and known densities, on one colour scale:
    linear, or logarithmic where half of the points are in less than 1 % of the view.

    Args:
        data: (n, 2), or None if only the energy is known.
        model_samples: (m, 2).
        window: the view; the total of a histogram includes points outside of it, so that it
            estimates the density.
        truth: the distribution of the data.
        energy: drawn as exp(-E), normalised on the window, if `data` is None.
    """
    groups = {"data": data, "model samples": model_samples}
    shown = {name: points for name, points in groups.items() if points is not None}
    bins = cell_counts(window, bin_count(min(map(len, shown.values()))))
    split = max(2, -(-_MIN_DENSITY_CELLS // max(bins)))  # cells of a computed density per bin
    cells = (split * bins[0], split * bins[1])
    panels = {
        label_with_outside(name, points, window): _histogram(points, window, bins)
        for name, points in shown.items()
    }
    tops = [density.max() for density in panels.values()]
    if truth is not None:
        density = np.exp(evaluate_on_grid(truth.log_prob, window, cells).values)
        panels["true density"] = np.nan_to_num(density)
    if data is None and energy is not None:
        panels["density of the energy"] = _boltzmann_density(energy, window, cells)
    last = list(panels.values())[-1]
    if len(panels) > len(shown):  # averaged over bins, comparable with a histogram
        last = last.reshape(bins[1], split, bins[0], split).mean(axis=(1, 3))
    return _side_by_side(panels, window, max(tops[0], last.max()), title)


def _color_scale(histogram: np.ndarray, top: float) -> Normalize:
    """Colours of densities up to `top`; on a logarithmic scale from the density of a thousandth of
    it on, or of a bin with one point."""
    heights = np.sort(histogram, axis=None)[::-1]
    area = np.searchsorted(heights.cumsum(), heights.sum() / 2) / heights.size
    if not heights.any() or area >= _MIN_AREA:
        return Normalize(0.0, top or 1.0)
    return LogNorm(max(heights[heights > 0].min(), top / 1000), top)


def bin_count(count: int) -> int:
    """Number of bins along the longer side for `count` points: proportional to its cube root, in
    [16, 80].
    """
    return int(np.clip(round(3 * max(count, 1) ** (1 / 3)), 16, 80))


def _histogram(points: Tensor, window: Window, bins: tuple[int, int]) -> np.ndarray:
    """Fraction of all n points in each bin, per unit area, (n, 2) -> (rows, columns)."""
    points = points.detach().cpu().double()
    inside = points[window.contains(points)].numpy()
    left, right, bottom, top = window.extent
    counts, _, _ = np.histogram2d(
        inside[:, 0], inside[:, 1], bins=bins, range=((left, right), (bottom, top))
    )
    area = (right - left) * (top - bottom) / (bins[0] * bins[1])
    return counts.T / (max(len(points), 1) * area)


def _boltzmann_density(
    energy: Callable[[Tensor], Tensor], window: Window, cells: tuple[int, int]
) -> np.ndarray:
    """exp(-E) on a grid, with integral 1 over the window; 0 where the energy is not finite."""
    grid = evaluate_on_grid(energy, window, cells)
    return normalized_density(grid.values, grid.cell)


def normalized_density(energies: np.ndarray, cell: float) -> np.ndarray:
    """exp(-E), of the shape of the energies, with integral 1 over cells of this size; 0 where the
    energy is not finite.
    """
    heights = np.where(np.isfinite(energies), energies, np.inf)
    if not np.isfinite(heights).any():
        return np.zeros_like(heights)
    weights = np.exp(heights.min() - heights)
    return weights / (weights.sum() * cell)


def _side_by_side(
    panels: Mapping[str, np.ndarray], window: Window, top: float, title: str
) -> Figure:
    """One row of densities, (rows, columns) each, with the same view and one colour bar up to the
    density `top`.
    """
    width, height = window.shape
    aspect = min(max(height / width, 0.45), 1.6)
    figure = new_figure(0.9 + 3.7 * len(panels), 1.1 + 3.4 * aspect, title)
    (row,) = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)
    image, scale = None, _color_scale(next(iter(panels.values())), top)
    for axes, (name, density) in zip(row, panels.items(), strict=True):
        image = axes.imshow(
            np.maximum(density, scale.vmin or 0.0), origin="lower", extent=window.extent,
            aspect=window.aspect, cmap=COLORMAP, norm=scale, interpolation="nearest",
        )  # fmt: skip
        label_axes(axes, title=name, x=window.names[0])
    row[0].set_ylabel(window.names[1], fontsize=LABEL_SIZE)
    assert image is not None
    logarithmic = isinstance(scale, LogNorm)
    ends = "both" if logarithmic else "max"
    bar = figure.colorbar(image, ax=list(row), pad=0.01, extend=ends)
    bar.ax.tick_params(labelsize=SMALL_SIZE)
    label = f"probability per unit area{' (logarithmic)' if logarithmic else ''}"
    bar.set_label(label, fontsize=LABEL_SIZE)
    return figure
