"""The part of the plane that a figure shows."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

_TAIL_SHARE = 0.01  # fraction of points on each side that may be outside of the view
_MAX_EQUAL_ASPECT = 5.0  # ratio of the widths above which each axis has its own scale
_FENCE_IQR = 3.0  # points within so many interquartile ranges are always shown


class Window(NamedTuple):
    """An axis-aligned rectangle in the data's own units, given by two (x, y) corners."""

    low: tuple[float, float]
    high: tuple[float, float]
    names: tuple[str, str] = ("$x_1$", "$x_2$")
    """Axis labels, in matplotlib's notation."""

    @property
    def size(self) -> tuple[float, float]:
        """(width, height) in the data's units."""
        return self.high[0] - self.low[0], self.high[1] - self.low[1]

    @property
    def aspect(self) -> Literal["equal", "auto"]:
        """ "equal" for equal units on both axes; "auto" if one side is more than 5 times as long as
        the other.
        """
        return "equal" if max(self.size) <= _MAX_EQUAL_ASPECT * min(self.size) else "auto"

    @property
    def shape(self) -> tuple[float, float]:
        """(width, height) of the figure up to a factor; a square if the aspect is "auto"."""
        return self.size if self.aspect == "equal" else (1.0, 1.0)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """(left, right, bottom, top), matplotlib's order."""
        return self.low[0], self.high[0], self.low[1], self.high[1]

    def enclosing_square(self) -> Window:
        """The smallest square that contains the window, with the same centre."""
        reach = max(self.size) / 2
        x, y = ((low + high) / 2 for low, high in zip(self.low, self.high, strict=True))
        return Window((x - reach, y - reach), (x + reach, y + reach), self.names)

    def contains(self, points: Tensor) -> Tensor:
        """Whether each point is inside, (n, 2) -> (n,) bool, on the CPU. False for a point with
        NaN.
        """
        points = points.detach().cpu().double()
        low, high = points.new_tensor(self.low), points.new_tensor(self.high)
        return ((points >= low) & (points <= high)).all(dim=1)


def fit_window(points: Tensor, margin: float = 0.2) -> Window:
    """A window that contains (n, 2) points, except for outliers.

    Args:
        points: in the data's own units; those with a non-finite coordinate are ignored.
        margin: free space on each side, as a fraction of the width.

    Raises:
        ValueError: no point is finite, or the shape is not (n, 2).
    """
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"a window needs points of shape (n, 2), got {tuple(points.shape)}")
    points = points.detach().cpu().double()
    points = points[points.isfinite().all(dim=1)]
    if len(points) == 0:
        raise ValueError("a window needs at least one finite point, got none")
    (left, right), (bottom, top) = (fit_interval(points[:, i], margin) for i in (0, 1))
    return Window((left, bottom), (right, top))


def fit_interval(values: Tensor, margin: float) -> tuple[float, float]:
    """An interval (low, high) with low < high that contains (n,) finite values, except for
    outliers.
    """
    # The quantiles exclude at least one value on each side for every n. The fence includes it
    # again if it is no outlier. Quantiles alone would cut small samples, and the fence alone
    # would cut off a small mode next to a large narrow one.
    ordered = values.sort().values
    outermost = len(ordered) - 1
    drop = min(max(1, round(_TAIL_SHARE * outermost)), outermost // 2)
    first, third = ordered[outermost // 4], ordered[outermost - outermost // 4]
    reach = _FENCE_IQR * (third - first)
    fenced = ordered[(ordered >= first - reach) & (ordered <= third + reach)]
    low = float(torch.minimum(ordered[drop], fenced[0]))
    high = float(torch.maximum(ordered[outermost - drop], fenced[-1]))
    width = high - low
    if width <= 1e-9 * max(abs(low), abs(high), 1e-9):  # a single value
        width = max(abs(low), 1.0)
    return low - margin * width, high + margin * width
