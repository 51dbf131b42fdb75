"""The part of the plane that a figure shows."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

_TAIL_SHARE = 0.01  # the share of points on each side that may be left out of view
_MAX_EQUAL_ASPECT = 5.0  # ratio of the two widths beyond which the axes get a scale each
_FENCE_IQR = 3.0  # in interquartile ranges: what lies within is shown however few the points are


class Window(NamedTuple):
    """An axis-aligned rectangle in the data's own units, as (x, y) corners."""

    low: tuple[float, float]
    high: tuple[float, float]
    names: tuple[str, str] = ("$x_1$", "$x_2$")
    """Of the axes, as matplotlib reads them."""

    @property
    def size(self) -> tuple[float, float]:
        """(width, height)"""
        return self.high[0] - self.low[0], self.high[1] - self.low[1]

    @property
    def aspect(self) -> Literal["equal", "auto"]:
        """Equal units on both axes, unless the shorter side would shrink to a line."""
        return "equal" if max(self.size) <= _MAX_EQUAL_ASPECT * min(self.size) else "auto"

    @property
    def shape(self) -> tuple[float, float]:
        """(width, height) on paper, up to a factor: a square where the axes have scales of their
        own."""
        return self.size if self.aspect == "equal" else (1.0, 1.0)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """(left, right, bottom, top), the order that matplotlib wants."""
        return self.low[0], self.high[0], self.low[1], self.high[1]

    def enclosing_square(self) -> Window:
        """The smallest square around it."""
        reach = max(self.size) / 2
        x, y = ((low + high) / 2 for low, high in zip(self.low, self.high, strict=True))
        return Window((x - reach, y - reach), (x + reach, y + reach), self.names)

    def contains(self, points: Tensor) -> Tensor:
        """(n, 2) -> (n,) of bool, on the CPU. A point with a NaN is nowhere, so not inside."""
        points = points.detach().cpu().double()
        low, high = points.new_tensor(self.low), points.new_tensor(self.high)
        return ((points >= low) & (points <= high)).all(dim=1)


def fit_window(points: Tensor, margin: float = 0.2) -> Window:
    """The view that holds (n, 2) points, but not the few that ran away.

    Args:
        points: in the data's own units; those with a non-finite coordinate are ignored.
        margin: free space on each side, as a fraction of the width.

    Raises:
        ValueError: no point is finite, or they are not points of the plane.
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
    """The same on a line: (n,) finite values -> (low, high), low < high."""
    # At least one value is outside the quantiles whatever n is: rounding goes inwards. A fence
    # brings it back where it is no outlier; quantiles alone would cut small samples short, and
    # the fence alone would cut off a small mode beside a large narrow one.
    ordered = values.sort().values
    outermost = len(ordered) - 1
    drop = min(max(1, round(_TAIL_SHARE * outermost)), outermost // 2)
    first, third = ordered[outermost // 4], ordered[outermost - outermost // 4]
    reach = _FENCE_IQR * (third - first)
    fenced = ordered[(ordered >= first - reach) & (ordered <= third + reach)]
    low = float(torch.minimum(ordered[drop], fenced[0]))
    high = float(torch.maximum(ordered[outermost - drop], fenced[-1]))
    width = high - low
    if width <= 1e-9 * max(abs(low), abs(high), 1e-9):  # a single point: any view will do
        width = max(abs(low), 1.0)
    return low - margin * width, high + margin * width
