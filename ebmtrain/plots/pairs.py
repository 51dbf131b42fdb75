"""Pairs of columns of a table: data below the diagonal, samples above it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ebmtrain.plots.points import draw_data
from ebmtrain.plots.projection import draw_marginal
from ebmtrain.plots.style import DATA, MODEL, SMALL_SIZE, label_axes, new_figure, short_label
from ebmtrain.plots.window import Window, fit_interval

_MAX_COLUMNS = 6  # more panels would be too small to read


def pairs(data: Tensor, model_samples: Tensor, names: Sequence[str], title: str = "") -> Figure:
    """A square of panels for the first columns, at most six.

    Below the diagonal are the data, above it equally many samples, with the same view for each pair
    of columns: the two halves should be mirror images. On the diagonal are histograms of both.

    Args:
        data: (n, d), d >= 2, in the data's own units.
        model_samples: (m, d).
        names: of the d columns.
    """
    data = data.detach().cpu().double()
    samples = model_samples.detach().cpu().double()
    d = min(len(names), _MAX_COLUMNS)
    if len(names) > _MAX_COLUMNS:
        notice = f"the first {_MAX_COLUMNS} of {len(names)} columns"
        title = f"{title}\n{notice}" if title else notice
    views = [fit_interval(column, 0.1) for column in data[:, :d].T]
    size = 2.1 if d > 3 else 2.8
    figure = new_figure(size * d + 0.4, size * d + 1.1, title)
    panels = figure.subplots(d, d, squeeze=False)
    for row, column in product(range(d), range(d)):
        axes = panels[row][column]
        if row == column:
            draw_marginal(axes, data, samples, row)
            axes.set_yticks([])
        elif row > column:
            _draw_pair(axes, data, DATA, (column, row), views)
        else:
            _draw_pair(axes, samples[: len(data)], MODEL, (column, row), views)
        bottom, left = row == d - 1, column == 0
        label_axes(
            axes,
            x=short_label(names[column]) if bottom else "",
            y=short_label(names[row]) if left else "",
        )
        axes.tick_params(labelbottom=bottom, labelleft=left and row > 0)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, fontsize=SMALL_SIZE, frameon=False
    )
    return figure


def _draw_pair(
    axes: Axes,
    points: Tensor,
    colour: str,
    columns: tuple[int, int],
    views: Sequence[tuple[float, float]],
) -> None:
    """Scatter plot of two columns of (n, d) points, that of the x axis first, in their views."""
    (left, right), (bottom, top) = (views[j] for j in columns)
    draw_data(axes, points[:, columns], Window((left, bottom), (right, top)), colour)
    axes.set(xlim=(left, right), ylim=(bottom, top))
