"""Scatter plots of data and samples."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from ebmtrain.plots.window import Window

MAX_DATA = 1000  # more dots would hide what is below them
_MAX_SAMPLES = 500


def thin(points: Tensor, limit: int) -> np.ndarray:
    """At most `limit` of the points, evenly spaced in their order; deterministic."""
    points = points.detach().cpu().double()
    stride = -(-len(points) // limit) or 1
    return points[::stride].numpy()


def label_with_outside(name: str, points: Tensor, window: Window) -> str:
    """`name`, with the number of points that are outside of the window, if any."""
    outside = len(points) - int(window.contains(points).sum())
    return f"{name} ({outside} of {len(points)} outside the view)" if outside else name


def draw_data(
    axes: Axes, data: Tensor, window: Window, colour: str, *, edge: str = "none", area: float = 1.0
) -> None:
    """Small dots at (n, 2) points. `area` is that of a dot, relative to a figure of full size."""
    xy = thin(data, MAX_DATA)
    label = label_with_outside("data", data, window)
    axes.scatter(
        xy[:, 0], xy[:, 1], s=5 * area, c=colour, edgecolors=edge, linewidths=0.25, label=label
    )


def scatter_samples(
    axes: Axes, samples: Tensor, window: Window, colour: str, *, area: float = 1.0
) -> None:
    """Larger triangles at (n, 2) points, with a black edge: visible on dark and on bright
    backgrounds and distinguishable from dots without colour.
    """
    xy = thin(samples, _MAX_SAMPLES)
    label = label_with_outside("model samples", samples, window)
    axes.scatter(
        xy[:, 0], xy[:, 1], s=13 * area, marker="^", c=colour, edgecolors="black", linewidths=0.35,
        label=label,
    )  # fmt: skip
