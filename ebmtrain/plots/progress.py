"""Figure of a run during training: landscape, energies and quality."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure
from torch import Tensor

from ebmtrain.plots.curves import (
    ENERGIES,
    LOSS,
    MetricRows,
    draw_curves,
    has_metrics,
    quality_panel,
)
from ebmtrain.plots.landscape import draw_landscape
from ebmtrain.plots.style import new_figure
from ebmtrain.plots.window import Window


def progress(
    energy: Callable[[Tensor], Tensor],
    window: Window,
    rows: MetricRows,
    *,
    data: Tensor | None = None,
    samples: Tensor | None = None,
    title: str = "",
) -> Figure:
    """Landscape with data and samples | energies against steps | KL (or regret, NLL, loss) against
    steps.

    Arguments as for `landscape` and `curves`. Panels without metrics are left out.
    """
    panels = [p for p in (ENERGIES, quality_panel(rows) or LOSS) if has_metrics(rows, p)]
    figure = new_figure(5.6 + 4.0 * len(panels), 4.8, title)
    grid = figure.add_gridspec(1, 1 + len(panels), width_ratios=[1.35] + [1.0] * len(panels))
    draw_landscape(
        figure.add_subplot(grid[0, 0]), energy, window, data=data, samples=samples, area=0.45
    )
    for i, panel in enumerate(panels):
        draw_curves(figure.add_subplot(grid[0, i + 1]), rows, panel)
    return figure
