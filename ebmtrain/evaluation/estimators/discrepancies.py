"""Two-sample distances: MMD, energy distance, sliced Wasserstein distance.

Each is computed for several sign vectors w at once, with one sign per pair (x_i, y_i): where
w_i = -1, the two points are exchanged. All ones give the distance itself; random signs give its
distribution under the null hypothesis that both samples are from one density.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ebmtrain.evaluation.estimators.u_statistics import u_statistics

_N_LENGTHS = 5
_MAX_MEDIAN_POINTS = 1_000  # for the median distance


def kernel_lengths(points: Tensor) -> list[float]:
    """Kernel lengths for (n, d) points: the median of the pairwise distances and its half, quarter,
    ..., which resolve the structure within modes as well as their positions. If the median is 0 the
    mean is used, and 1 if all points are equal.
    """
    gaps = torch.pdist(points[:_MAX_MEDIAN_POINTS])
    median = float(gaps.median()) if len(gaps) else 0.0
    longest = median or (float(gaps.mean()) if len(gaps) else 0.0) or 1.0
    return [longest / 2**i for i in range(_N_LENGTHS)]


def kernel_discrepancies(x: Tensor, y: Tensor, lengths: list[float], signs: Tensor) -> Tensor:
    """Unbiased estimates of MMD^2 (Gretton et al., JMLR 13, 2012) and of the energy distance
    (Szekely & Rizzo, 2013), (2, shuffles):

        MMD^2           E k(x, x') + E k(y, y') - 2 E k(x, y), k the mean of Gaussian kernels
                        exp(-r^2 / (2 length^2)); dimensionless, in [0, 2]
        energy distance 2 E ||x - y|| - E ||x - x'|| - E ||y - y'||, a length in units of x
                        (some authors take its square root)

    Both are 0 if the densities are equal and positive otherwise; an estimate may be negative.

    Args:
        x, y: (n, d) each, n >= 2.
        lengths: of the kernels, each half of the one before.
        signs: (n, shuffles).
    """
    middle = (x.mean(0) + y.mean(0)) / 2  # distances far from the origin lose digits
    x, y = x - middle, y - middle

    def h(rows: slice) -> Tensor:
        total: Tensor | float = 0.0
        for a, b, sign in ((x, x, 1), (y, y, 1), (x, y, -1), (y, x, -1)):
            gaps = torch.cdist(a[rows], b)
            total = total + sign * torch.stack([_gaussian_kernel(gaps, lengths), -gaps])
        assert isinstance(total, Tensor)
        return total

    return u_statistics(h, len(x), signs)


def _gaussian_kernel(gaps: Tensor, lengths: list[float]) -> Tensor:
    """Mean over lengths of exp(-gaps^2 / (2 length^2)), each length half of the one before."""
    k = (gaps.square() * (-0.5 / lengths[0] ** 2)).exp_()
    total = k.clone()
    for _ in lengths[1:]:
        k = k.square().square_()
        total += k
    return total / len(lengths)


def random_directions(count: int, d: int, generator: Generator) -> Tensor:
    """`count` unit vectors, uniform on the sphere, (count, d), float64 on the CPU; (1, 1) in one
    dimension.
    """
    v = torch.randn(1 if d == 1 else count, d, dtype=torch.float64, generator=generator)
    return v / v.norm(dim=1, keepdim=True)


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor, signs: Tensor) -> Tensor:
    """Sliced Wasserstein distance: the mean over directions v of W_1(v'x, v'y) (Rabin et al., 2012;
    Bonneel et al., 2015), in units of x, (shuffles,). In one dimension

        W_1 = integral |F(t) - G(t)| dt

    over the distribution functions F and G. It is positive for finite samples of one density:
    compare it with its floor.

    Args:
        x, y: (n, d) each.
        directions: unit vectors v, (directions, d).
        signs: (n, shuffles).
    """
    pooled, order = (torch.cat([x, y]) @ directions.T).T.contiguous().sort(1)
    gaps = pooled.diff(dim=1)
    distances = []
    for w in signs.T:
        step = torch.cat([w, -w]) / len(x)
        cdf_difference = step[order].cumsum(1)[:, :-1]  # F - G
        distances.append((cdf_difference.abs_() * gaps).sum(1).mean())
    return torch.stack(distances)
