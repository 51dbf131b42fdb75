"""log Z by quadrature in up to three dimensions, with estimates of its error."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from ebmtrain.evaluation.estimators.adaptive_quadrature import integrate_adaptively
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
    """|log Z - log Z at half the resolution|, in nats; of the adaptive rule its estimated error."""
    outside: float
    """Fraction of the mass in a wider region (of twice the width; of the adaptive rule four times)
    that is outside of the region."""
    tree: tuple[Tensor, Tensor] | None = None
    """Points, (n, d), and their masses, (n,), of the adaptive rule, where the grid is too coarse or
    too small; None: the grid is used."""

    @property
    def points(self) -> Tensor:
        """(n, d), float64."""
        return self.grid.points if self.tree is None else self.tree[0]

    @property
    def masses(self) -> Tensor:
        """(n,), with sum 1."""
        return torch.softmax(-self.grid.energy, 0) if self.tree is None else self.tree[1]

    def is_known(self, tolerance: float) -> bool:
        """Whether both errors are within the tolerance; NaN is not."""
        return self.resolution_error <= tolerance and self.outside <= tolerance


def check_points(energy: Callable[[Tensor], Tensor], found: LogZ, points: Tensor) -> LogZ:
    """log Z whose error is at least what the lowest energy of points of the data, (m, d), is below
    that of the grid, where this is more than half a nat: there is a well between its points."""
    if not len(points):
        return found
    below = float(found.grid.energy.min() - in_chunks(energy, points, CHUNK).min())
    if not below > _MAX_BELOW_GRID_NATS:
        return found
    return found._replace(resolution_error=max(found.resolution_error, below))


def refine_log_z(
    energy: Callable[[Tensor], Tensor],
    found: LogZ,
    points: Tensor,
    tolerance: float,
) -> LogZ:
    """log Z by the adaptive rule, for structure finer than the grid and for heavy tails; `found` if
    its error is not within the tolerance either.

    It is integrated over a region four times as wide as the grid, which grows by four as long as
    that makes the fraction outside of the narrower one fall.

    Args:
        energy: as of `integrate_log_z`.
        found: by the grid.
        points: of the data, (m, d), where mass is expected.
        tolerance: in nats.
    """
    evaluate = partial(in_chunks, energy, size=CHUNK)
    n_peaks = min(_N_PEAKS, len(found.grid.points))
    lowest = found.grid.points[found.grid.energy.topk(n_peaks, largest=False).indices]
    seeds, region = torch.cat([points, lowest]), found.grid.region
    value = max(found.value, float(-evaluate(seeds).min()) + found.grid.log_cell)
    before = 1.0
    for _ in range(_MAX_GROWTHS if math.isfinite(value) else 0):
        wide = region.grown(4.0)
        inside = ((seeds >= wide.low) & (seeds <= wide.high)).all(1)
        value, tree = integrate_adaptively(evaluate, wide, seeds[inside], value, tolerance)
        within = ((tree.points >= region.low) & (tree.points <= region.high)).all(1)
        outside = float(tree.masses[~within].sum())
        result = LogZ(found.grid, value, tree.error, outside, (tree.points, tree.masses))
        if result.is_known(tolerance):
            return result
        if not (tree.error <= tolerance and outside < _MIN_DECREASE * before):
            return found
        region, before = wide, outside
    return found


# A Gaussian of 1.65 cells is 0.05 nats per dimension lower at its centre than at a corner of cells.
_MAX_BELOW_GRID_NATS = 0.5
_N_PEAKS = 64  # points of the grid with the lowest energies, near which boxes are divided
_MAX_GROWTHS = 5
_MIN_DECREASE = 0.8  # of the fraction outside, from one region to the next


def _quadrature_grid(
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
    limit: float = math.inf,
) -> LogZ:
    """Log integral of exp(-energy) by the midpoint rule. It converges faster than any power of the
    cell width for smooth energies whose mass is well inside the box.

    The box grows by half while more than `tolerance` of the mass of the box of twice the width is
    outside of it; then the resolution doubles while half the resolution differs by more than
    `tolerance` nats, or a third of it by more than 0.01. Both stop after `attempts` changes, the
    resolution also at 2,000,000 points, or where half of it differs by more than `limit`
    nats. The remaining errors are returned, and the caller warns about them.

    Args:
        energy: (batch, d) float64 -> (batch,), in units of the temperature; d <= 3.
        region: initial box.
        n_per_axis: initial resolution.
        tolerance: in nats.
        attempts: largest number of changes of box and resolution.
        limit: in nats.
    """
    d = len(region.low)
    grid = _quadrature_grid(energy, region, n_per_axis)
    for remaining in range(attempts, -1, -1):
        wide = _quadrature_grid(energy, grid.region.grown(2.0), grid.n_per_axis)
        inside = ((wide.points >= grid.region.low) & (wide.points <= grid.region.high)).all(1)
        log_outside = torch.logsumexp(-wide.energy[~inside], 0) + wide.log_cell
        total = torch.logaddexp(torch.tensor(grid.log_z, dtype=torch.float64), log_outside)
        outside = float((log_outside - total).exp())
        error, is_smooth = grid.resolution_error, grid.coarse_error(3) <= _REFINED_ABOVE
        too_fine = (2 * grid.n_per_axis) ** d > _MAX_POINTS
        if remaining and not outside <= tolerance:
            grid = _quadrature_grid(energy, grid.region.grown(1.5), grid.n_per_axis)
        elif (
            remaining and not (error <= tolerance and is_smooth) and not (too_fine or error > limit)
        ):
            grid = _quadrature_grid(energy, grid.region, 2 * grid.n_per_axis)
        else:
            return LogZ(grid, grid.log_z, error, outside)
    raise AssertionError("the last round returns")
