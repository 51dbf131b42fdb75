"""Histograms of the energies of different groups of points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ebmtrain.plots.projection import finite_points
from ebmtrain.plots.samples import bin_count
from ebmtrain.plots.style import DATA, MODEL, PURPLE, SMALL_SIZE, label_axes, new_figure
from ebmtrain.plots.window import fit_interval

_STYLES = (
    {"histtype": "stepfilled", "color": DATA, "alpha": 0.45},
    {"histtype": "step", "color": MODEL, "linewidth": 1.5},
    {"histtype": "step", "color": PURPLE, "linewidth": 1.5, "linestyle": "--"},
)
_MAX_EXTENSION = 4.0  # of the view on each side, in widths of the view of the first group


def energy_histograms(groups: Mapping[str, Tensor], title: str = "") -> Figure:
    """A figure of `draw_energy_histograms`."""
    figure = new_figure(8.0, 4.4, title)
    draw_energy_histograms(figure.add_subplot(), groups)
    return figure


def draw_energy_histograms(axes: Axes, groups: Mapping[str, Tensor]) -> None:
    """Histograms of energies on the same bins, each with integral 1.

    The view is that of the first group, extended for the others. Energies outside of the view are
    counted in the outermost bin, and their number is given in the legend. There are up to three
    groups of energies, (n,), in nats, the data first.
    """
    finite_energies = {
        name: finite_points(e.detach().cpu().double()[:, None])[:, 0] for name, e in groups.items()
    }
    views = [fit_interval(e, 0.1) for e in finite_energies.values()]
    low, high = views[0]
    width = high - low
    low = max(min(view[0] for view in views), low - _MAX_EXTENSION * width)
    high = min(max(view[1] for view in views), high + _MAX_EXTENSION * width)
    fewest = min(map(len, finite_energies.values()))
    n_bins = int(bin_count(fewest) * min(max((high - low) / width, 1.0), 3.0))
    bins = np.linspace(low, high, n_bins + 1).tolist()
    for (name, e), style in zip(finite_energies.items(), _STYLES, strict=False):
        outside = int(((e < low) | (e > high)).sum()) + len(groups[name]) - len(e)
        label = f"{name} ({outside} of {len(groups[name])} outside the view)" if outside else name
        weights = torch.full_like(e, 1 / (len(e) * (bins[1] - bins[0]))).numpy()
        axes.hist(e.clamp(low, high).numpy(), bins=bins, weights=weights, label=label, **style)
    axes.set_xlim(low, high)
    # Above the axes: a narrow panel has no free corner for it.
    axes.legend(
        fontsize=SMALL_SIZE, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0),
        borderaxespad=0.2,
    )  # fmt: skip
    label_axes(axes, x="energy / T, in nats", y="probability density")
