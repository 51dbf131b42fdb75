"""Points of data and model drawn over something else."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from ebmtrain.plots.window import Window

MAX_DATA = 2000  # beyond these a scatter only gets slower and darker
MAX_SAMPLES = 500


def thinned(points: Tensor, limit: int) -> np.ndarray:
    """At most `limit` of the points, evenly picked: repeatable, and it draws no random number."""
    points = points.detach().cpu().double()
    stride = -(-len(points) // limit) or 1
    return points[::stride].numpy()


def label_of(name: str, points: Tensor, window: Window) -> str:
    """`name`, and how many of the points the window hides, so that no runaway goes unnoticed."""
    outside = len(points) - int(window.contains(points).sum())
    return f"{name} ({outside} of {len(points)} outside the view)" if outside else name


def draw_data(axes: Axes, data: Tensor, window: Window, colour: str) -> None:
    """Small faint dots: (n, 2)."""
    xy = thinned(data, MAX_DATA)
    label = label_of("data", data, window)
    axes.scatter(xy[:, 0], xy[:, 1], s=3, c=colour, alpha=0.45, linewidths=0, label=label)


def draw_samples(axes: Axes, samples: Tensor, window: Window, colour: str) -> None:
    """Larger discs with a white rim, seen on dark and on bright ground alike: (n, 2)."""
    xy = thinned(samples, MAX_SAMPLES)
    label = label_of("model samples", samples, window)
    axes.scatter(
        xy[:, 0], xy[:, 1], s=10, c=colour, alpha=0.9, edgecolors="white", linewidths=0.4,
        label=label,
    )  # fmt: skip
