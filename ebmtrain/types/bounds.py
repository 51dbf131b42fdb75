"""Bounds of the elements of a point, and the map to unbounded numbers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_MAX_EXPONENT = 700.0  # exp of it is finite in float64


class Bounds(NamedTuple):
    """low < x < high, elementwise, and the smooth increasing y = t(x) from there to the real line:
    log(x - low), -log(high - x), log((x - low) / (high - x)), or x where there is no bound.
    """

    low: Tensor
    """(*event), float64; -inf: none."""
    high: Tensor
    """(*event), float64; inf: none."""

    def contains(self, x: Tensor) -> Tensor:
        """Whether each of (n, *event) points is inside, (n,); NaN, which is padding, is."""
        return ~((x <= self.low) | (x >= self.high)).flatten(1).any(1)

    def to_real(self, x: Tensor) -> Tensor:
        """t(x); of a value that is not inside, of the nearest one that is."""
        below, above = self._distances(x)
        return torch.where(self.bounded, below.log() - above.log(), x)

    def from_real(self, y: Tensor) -> Tensor:
        """x, which is inside in float64 too."""
        low, high = self._inside
        limited = y.clamp(-_MAX_EXPONENT, _MAX_EXPONENT)
        below, above = self.low.isfinite(), self.high.isfinite()
        x = torch.where(below & ~above, self.low + limited.exp(), y)
        x = torch.where(above & ~below, self.high - (-limited).exp(), x)
        x = torch.where(below & above, self.low + self._width * y.sigmoid(), x)
        return torch.where(self.bounded, torch.minimum(torch.maximum(x, low), high), x)

    def log_slope(self, x: Tensor) -> Tensor:
        """log |dt/dx| = sum over elements of log t'(x), (n, *event) -> (n,). Padding counts 0."""
        below, above = self._distances(x)
        return (self._width.log() - below.log() - above.log()).flatten(1).nansum(1)

    @property
    def bounded(self) -> Tensor:
        """(*event), bool: whether an element has a bound."""
        return self.low.isfinite() | self.high.isfinite()

    @property
    def _width(self) -> Tensor:
        """high - low of intervals; else 1."""
        width = self.high - self.low
        return torch.where(width.isfinite(), width, 1.0)

    @property
    def _inside(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest number inside."""
        inf = torch.full_like(self.low, torch.inf)
        return torch.nextafter(self.low, inf), torch.nextafter(self.high, -inf)

    def _distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x - low and high - x, at least those of the nearest number inside; 1 where there is no
        bound."""
        low, high = self._inside
        x = torch.where(self.bounded, torch.minimum(torch.maximum(x, low), high), x)
        below = torch.where(self.low.isfinite(), x - self.low, 1.0)
        return below, torch.where(self.high.isfinite(), self.high - x, 1.0)
