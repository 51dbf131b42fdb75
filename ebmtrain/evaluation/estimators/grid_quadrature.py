"""log Z by quadrature in up to three dimensions, with estimates of its error."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from ebmtrain.score import in_chunks
from ebmtrain.types import Region

CHUNK = 4_096  # points at once: activations stay in cache
_MAX_POINTS = 2_000_000


# Errors of a grid three times as coarse, in nats: above the first the grid is refined, above the
# second its error is not known. Gaussians in two dimensions exceed them below a width of 1.65 and
# of 1.3 cells; below 1.3 cells a grid twice as coarse has an error of more than 1e-3.
_REFINED_ABOVE, _UNKNOWN_ABOVE = 0.01, 0.1


class _QuadratureGrid(NamedTuple):
    """Energies at the midpoints of n^d equal cells of a region."""

    region: Region
    points: Tensor
    """(n^d, d), float64; the last coordinate varies fastest."""
    energy: Tensor
    """(n^d,), float64, in units of the temperature."""
    log_cell: float
    """Log volume of a cell."""
    n_per_axis: int

    @property
    def log_z(self) -> float:
        """log sum_cells exp(-E) * cell."""
        return float(torch.logsumexp(-self.energy, 0)) + self.log_cell

    @property
    def resolution_error(self) -> float:
        """The largest |log Z - log Z at half the resolution|, that is from every second point of
        each axis, beginning with its first or its second point: along several axes the errors of
        one of these 2^d grids may cancel.

        All of them agree by symmetry with an energy that is even about the centre of the region,
        however narrow it is. From every third point they do not; where these differ by more than
        0.1 nats, that is the error.
        """
        third = self.coarse_error(3)
        return max(self.coarse_error(2), third if not third <= _UNKNOWN_ABOVE else 0.0)

    def coarse_error(self, stride: int) -> float:
        """The largest |log Z - log Z from every stride-th point of each axis|, over all offsets."""
        d = self.points.shape[1]
        cube = self.energy.view([self.n_per_axis] * d)
        log_cell = self.log_cell + d * math.log(stride)  # of the cells that a point represents
        parts = product([slice(first, None, stride) for first in range(stride)], repeat=d)
        coarse = (float(torch.logsumexp(-cube[part].flatten(), 0)) + log_cell for part in parts)
        return max(abs(self.log_z - value) for value in coarse)


class LogZ(NamedTuple):
    """log Z with estimates of its error."""

    grid: _QuadratureGrid
    value: float
    """log Z in nats, of exp(-energy) over the coordinates of the region."""
    resolution_error: float
    """|log Z - log Z at half the resolution|, in nats."""
    outside: float
    """Fraction of the mass in the region of twice the width that is outside of the region."""


def quadrature_grid(
    energy: Callable[[Tensor], Tensor], region: Region, n_per_axis: int
) -> _QuadratureGrid:
    """Energies at the midpoints of n_per_axis^d cells of the region."""
    axes = [
        low + (high - low) * (torch.arange(n_per_axis, dtype=torch.float64) + 0.5) / n_per_axis
        for low, high in zip(region.low.tolist(), region.high.tolist(), strict=True)
    ]
    points = torch.cartesian_prod(*axes).view(-1, len(axes))
    with torch.no_grad():
        values = in_chunks(energy, points, CHUNK).double()
    widths = (region.high - region.low).double()
    log_cell = float(widths.log().sum()) - len(axes) * math.log(n_per_axis)
    # NaN counts as zero weight and shows in the resolution error.
    return _QuadratureGrid(region, points, values.nan_to_num(torch.inf), log_cell, n_per_axis)


def integrate_log_z(
    energy: Callable[[Tensor], Tensor],
    region: Region,
    n_per_axis: int,
    tolerance: float,
    attempts: int = 8,
) -> LogZ:
    """Log integral of exp(-energy) by the midpoint rule. It converges faster than any power of the
    cell width for smooth energies whose mass is well inside the box.

    The box grows by half while more than `tolerance` of the mass of the box of twice the width is
    outside of it; then the resolution doubles while half the resolution differs by more than
    `tolerance` nats, or a third of it by more than 0.01. Both stop after `attempts` changes, the
    resolution also at 2,000,000 points. The remaining errors are returned, and the caller warns
    about them.

    Args:
        energy: (batch, d) float64 -> (batch,), in units of the temperature; d <= 3.
        region: initial box.
        n_per_axis: initial resolution.
        tolerance: in nats.
        attempts: largest number of changes of box and resolution.
    """
    d = len(region.low)
    grid = quadrature_grid(energy, region, n_per_axis)
    for remaining in range(attempts, -1, -1):
        wide = quadrature_grid(energy, grid.region.grown(2.0), grid.n_per_axis)
        inside = ((wide.points >= grid.region.low) & (wide.points <= grid.region.high)).all(1)
        log_outside = torch.logsumexp(-wide.energy[~inside], 0) + wide.log_cell
        total = torch.logaddexp(torch.tensor(grid.log_z, dtype=torch.float64), log_outside)
        outside = float((log_outside - total).exp())
        error, is_smooth = grid.resolution_error, grid.coarse_error(3) <= _REFINED_ABOVE
        too_fine = (2 * grid.n_per_axis) ** d > _MAX_POINTS
        if remaining and not outside <= tolerance:
            grid = quadrature_grid(energy, grid.region.grown(1.5), grid.n_per_axis)
        elif remaining and not (error <= tolerance and is_smooth) and not too_fine:
            grid = quadrature_grid(energy, grid.region, 2 * grid.n_per_axis)
        else:
            return LogZ(grid, grid.log_z, error, outside)
    raise AssertionError("the last round returns")
