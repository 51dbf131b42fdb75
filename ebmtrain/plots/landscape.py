"""Contours of an energy in two dimensions, with data and samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation
from torch import Tensor

from ebmtrain.plots.contours import ContourData, contour_data, round_ticks
from ebmtrain.plots.grid import Grid, cell_counts, evaluate, evaluate_on_grid
from ebmtrain.plots.points import MAX_DATA, draw_data, scatter_samples, thin
from ebmtrain.plots.style import (
    COLORMAP,
    GREY,
    LABEL_SIZE,
    MODEL,
    SMALL_SIZE,
    label_axes,
    new_figure,
)
from ebmtrain.plots.window import Window

_CELLS = 160


def landscape(
    energy: Callable[[Tensor], Tensor],
    window: Window,
    *,
    data: Tensor | None = None,
    samples: Tensor | None = None,
    title: str = "",
) -> Figure:
    """Filled contours of an energy in nats, with data and samples.

    Args:
        energy: (n, 2) -> (n,); called on float64 points on the CPU, in the data's own units.
        window: the view; points outside of it are counted in the legend.
        data: (n, 2); also determines where the colours are clipped, see `contour_data`.
        samples: samples of the model, (m, 2).
    """
    width, height = window.shape
    longest = max(width, height)
    across, up = max(6.1 * width / longest, 3.0), max(6.1 * height / longest, 1.9)
    figure = new_figure(across + 2.1, up + 1.2, title)
    draw_landscape(figure.add_subplot(), energy, window, data=data, samples=samples)
    return figure


def draw_landscape(
    axes: Axes,
    energy: Callable[[Tensor], Tensor],
    window: Window,
    *,
    data: Tensor | None,
    samples: Tensor | None,
    area: float = 1.0,
) -> None:
    """`landscape` on the given axes, with a colour bar at their side and a legend below; `area` as
    for `draw_data`.
    """
    grid = evaluate_on_grid(energy, window, cell_counts(window, _CELLS))
    at_data = None if data is None else evaluate(energy, torch.from_numpy(thin(data, MAX_DATA)))
    width, height = window.shape
    _draw_contours(axes, grid, contour_data(grid.values, at_data), height / width)
    if data is not None:
        draw_data(axes, data, window, "white", edge="black", area=area)
    if samples is not None:
        scatter_samples(axes, samples, window, MODEL, area=area)
    # Contours end half a cell inside the window.
    axes.set(xlim=grid.x[[0, -1]], ylim=grid.y[[0, -1]], aspect=window.aspect)
    label_axes(axes, x=window.names[0], y=window.names[1])
    if data is None and samples is None:
        return
    # Below the tick labels, and on a dark background, since the data are white dots.
    below = ScaledTranslation(0, -34 / 72, axes.figure.dpi_scale_trans)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0.0), bbox_transform=axes.transAxes + below,
        ncols=2 if width > 0.7 * height else 1, columnspacing=1.5, fontsize=SMALL_SIZE,
        borderaxespad=0.0, markerscale=1.7, facecolor="#31688e", edgecolor="none", framealpha=1.0,
        labelcolor="white",
    )  # fmt: skip


def _draw_contours(axes: Axes, grid: Grid, contours: ContourData | None, aspect: float) -> None:
    """Contours and their colour bar; grey where the energy is undefined. The aspect is height /
    width of the axes.
    """
    axes.set_facecolor("#c8c8c8")
    if contours is None:
        axes.text(
            0.5, 0.5, "the energy is finite\nnowhere in this view", transform=axes.transAxes,
            ha="center", va="center", fontsize=LABEL_SIZE,
        )  # fmt: skip
        return
    extend = "max" if contours.clipped else "neither"
    # One equal step of colour per level, and one for all higher values.
    norm = BoundaryNorm(contours.levels, colormaps[COLORMAP].N, extend=extend)
    filled = axes.contourf(
        grid.x, grid.y, contours.heights, levels=contours.levels, cmap=COLORMAP, norm=norm,
        extend=extend,
    )  # fmt: skip
    # Inset axes are as high as the contours for every aspect.
    frame = axes.inset_axes((1.02, 0.0, 0.045 * max(1.0, aspect), 1.0))
    # The bounds on the aspect keep labels apart and inside the figure.
    ticks = round_ticks(contours.clip, min_gap=0.09 if aspect > 0.5 else 0.22)
    label = "energy above the minimum (nats)"
    if aspect < 0.75:
        label = label.replace("the ", "the\n", 1)
    bar = axes.figure.colorbar(filled, cax=frame, ticks=ticks, spacing="uniform")
    bar.ax.set_yticklabels([f"{tick:g}" for tick in ticks])
    bar.ax.tick_params(labelsize=SMALL_SIZE, color=GREY)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=LABEL_SIZE)
