"""log Z by quadrature, for up to three dimensions, with a check of its own error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebmtrain.score import in_chunks
from ebmtrain.types import Region

CHUNK = 4_096  # points at once: activations stay in cache
_MAX_POINTS = 2_000_000


class QuadratureGrid(NamedTuple):
    """Midpoints of n^d equal cells of a region, on which energies are known."""

    region: Region
    points: Tensor
    """(n^d, d), float64; the last coordinate runs fastest."""
    energy: Tensor
    """(n^d,), float64, in units of the temperature."""
    log_cell: float
    """log volume of a cell."""
    n_per_axis: int

    @property
    def log_z(self) -> float:
        """log sum_cells exp(-E) * cell."""
        return float(torch.logsumexp(-self.energy, 0)) + self.log_cell

    @property
    def log_z_coarse(self) -> float:
        """The same from every second point of each axis: what half the resolution would say."""
        d = self.points.shape[1]
        cube = self.energy.view([self.n_per_axis] * d)[(slice(None, None, 2),) * d]
        # A point stands for 2^d cells.
        return float(torch.logsumexp(-cube.flatten(), 0)) + self.log_cell + d * math.log(2)


class LogZ(NamedTuple):
    grid: QuadratureGrid
    value: float
    """log Z in nats, of exp(-energy) over the coordinates of the region."""
    resolution_error: float
    """|difference to half the resolution|, in nats."""
    outside: float
    """Fraction of the mass in twice the region that lies outside of the region."""


def quadrature_grid(
    energy: Callable[[Tensor], Tensor], region: Region, n_per_axis: int
) -> QuadratureGrid:
    """Energies at the midpoints of n_per_axis^d cells."""
    axes = [
        low + (high - low) * (torch.arange(n_per_axis, dtype=torch.float64) + 0.5) / n_per_axis
        for low, high in zip(region.low.tolist(), region.high.tolist(), strict=True)
    ]
    points = torch.cartesian_prod(*axes).view(-1, len(axes))
    with torch.no_grad():
        values = in_chunks(energy, points, CHUNK).double()
    widths = (region.high - region.low).double()
    log_cell = float(widths.log().sum()) - len(axes) * math.log(n_per_axis)
    # A NaN has no weight that could be known; it counts as none and shows in the resolution check.
    return QuadratureGrid(region, points, values.nan_to_num(torch.inf), log_cell, n_per_axis)


def integrate_log_z(
    energy: Callable[[Tensor], Tensor],
    region: Region,
    n_per_axis: int,
    tolerance: float,
    attempts: int = 8,
) -> LogZ:
    """log integral of exp(-energy) by the midpoint rule, which converges faster than any power
    of the cell for smooth energies whose mass is well inside the box.

    Twice the box must hold no more than `tolerance` of its mass outside of the box, else the box
    grows by half; half the resolution must agree within `tolerance` nats, else the resolution is
    doubled; both until MOST_POINTS or the attempts are spent. The errors left are returned: it is
    the caller's duty to say so where they exceed the tolerance.

    Args:
        energy: (batch, d) float64 -> (batch,), in units of the temperature; d <= 3.
        region: first box.
        n_per_axis: first resolution.
        tolerance: in nats.
        attempts: at most so many changes of box and resolution.
    """
    d = len(region.low)
    grid = quadrature_grid(energy, region, n_per_axis)
    for left in range(attempts, -1, -1):
        wide = quadrature_grid(energy, grid.region.grown(2.0), grid.n_per_axis)
        inside = ((wide.points >= grid.region.low) & (wide.points <= grid.region.high)).all(1)
        beyond = torch.logsumexp(-wide.energy[~inside], 0) + wide.log_cell
        total = torch.logaddexp(torch.tensor(grid.log_z, dtype=torch.float64), beyond)
        outside = float((beyond - total).exp())
        error = abs(grid.log_z - grid.log_z_coarse)
        too_many = (2 * grid.n_per_axis) ** d > _MAX_POINTS
        if left and not outside <= tolerance:
            grid = quadrature_grid(energy, grid.region.grown(1.5), grid.n_per_axis)
        elif left and not error <= tolerance and not too_many:
            grid = quadrature_grid(energy, grid.region, 2 * grid.n_per_axis)
        else:
            return LogZ(grid, grid.log_z, error, outside)
    raise AssertionError("the last round returns")
