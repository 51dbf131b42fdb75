"""How far two samples are apart: MMD, energy distance, sliced Wasserstein distance.

Each is computed for several w at once, one sign per pair (x_i, y_i): where w_i = -1 the two change
places. All ones give the discrepancy itself; random signs, between points of one density, give its
distribution where there is nothing to find.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ebmtrain.evaluation.estimators.u_statistics import u_statistics

_N_LENGTHS = 5
_MAX_MEDIAN_POINTS = 1_000  # points whose distances are as good as all for a median


def kernel_lengths(points: Tensor) -> list[float]:
    """Lengths of kernels for (n, d) points: the median of their distances (the mean where most
    are equal, 1 where all are), its half, quarter, ..., so that structure within modes is seen as
    well as their places."""
    gaps = torch.pdist(points[:_MAX_MEDIAN_POINTS])
    median = float(gaps.median()) if len(gaps) else 0.0
    longest = median or (float(gaps.mean()) if len(gaps) else 0.0) or 1.0
    return [longest / 2**i for i in range(_N_LENGTHS)]


def kernel_discrepancies(x: Tensor, y: Tensor, lengths: list[float], signs: Tensor) -> Tensor:
    """The unbiased estimates (Gretton et al., JMLR 13, 2012; Szekely & Rizzo, 2013), (2, shuffles):

        MMD^2           E k(x, x') + E k(y, y') - 2 E k(x, y), k the mean of Gaussian kernels
                        exp(-r^2 / (2 length^2)); no unit, 0 to 2
        energy distance 2 E ||x - y|| - E ||x - x'|| - E ||y - y'||, a length in units of x.
                        (Some call its square root so.)

    Both are 0 where the densities are equal and positive elsewhere; an estimate may be negative.

    Args:
        x, y: (n, d) each, n >= 2.
        lengths: of the kernels, each half of the one before.
        signs: (n, shuffles).
    """
    middle = (x.mean(0) + y.mean(0)) / 2  # far from the origin, distances would lose digits
    x, y = x - middle, y - middle

    def h(rows: slice) -> Tensor:
        total: Tensor | float = 0.0
        for a, b, sign in ((x, x, 1), (y, y, 1), (x, y, -1), (y, x, -1)):
            gaps = torch.cdist(a[rows], b)
            total = total + sign * torch.stack([gaussian_kernel(gaps, lengths), -gaps])
        assert isinstance(total, Tensor)
        return total

    return u_statistics(h, len(x), signs)


def gaussian_kernel(gaps: Tensor, lengths: list[float]) -> Tensor:
    """Mean over lengths of exp(-gaps^2 / (2 length^2)), each length half of the one before."""
    k = (gaps.square() * (-0.5 / lengths[0] ** 2)).exp_()
    total = k.clone()
    for _ in lengths[1:]:
        k = k.square().square_()
        total += k
    return total / len(lengths)


def random_directions(count: int, d: int, generator: Generator) -> Tensor:
    """`count` unit vectors, uniform on the sphere, (count, d), float64 on the CPU; one where there
    is but one."""
    v = torch.randn(1 if d == 1 else count, d, dtype=torch.float64, generator=generator)
    return v / v.norm(dim=1, keepdim=True)


def sliced_wasserstein(x: Tensor, y: Tensor, along: Tensor, signs: Tensor) -> Tensor:
    """Mean over directions v of W_1(v'x, v'y) (Rabin et al., 2012; Bonneel et al., 2015), in units
    of x, (shuffles,): how far probability must be moved along a line, on average. In one dimension

        W_1 = integral |F(t) - G(t)| dt

    over the distribution functions. Two finite samples of one density are never at 0: compare it
    with its floor.

    Args:
        x, y: (n, d) each.
        along: unit vectors v, (directions, d).
        signs: (n, shuffles).
    """
    pooled, order = (torch.cat([x, y]) @ along.T).T.contiguous().sort(1)
    gaps = pooled.diff(dim=1)
    found = []
    for w in signs.T:
        step = torch.cat([w, -w]) / len(x)
        between = step[order].cumsum(1)[:, :-1]  # F - G from each point to the next
        found.append((between.abs_() * gaps).sum(1).mean())
    return torch.stack(found)
