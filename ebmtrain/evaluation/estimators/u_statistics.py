"""Means over all pairs of points, and what chance alone makes of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

_CHUNK_PAIRS = 2**19  # at once
_NULL_LEVEL = 0.95  # share of the shuffles that stay beneath a floor


def u_statistics(h: Callable[[slice], Tensor], n: int, signs: Tensor) -> Tensor:
    """1 / (n (n - 1)) * sum_{i != j} w_i w_j h_ij for each w: no pair of a point with itself, so
    no bias; where the mean is zero, a value may be negative.

    If E[h(z, z')] = 0 for every z, which is so where there is nothing to find, random signs w leave
    the distribution of the sum nearly as it is (exactly for h(z, z') that changes its sign as z
    does): they show what chance makes of it.

    Args:
        h: rows of a symmetric matrix, (..., rows, n).
        n: >= 2.
        signs: w, (n, shuffles); ones for the statistic itself.

    Returns:
        (..., shuffles).
    """
    total: Tensor | float = 0.0
    step = max(1, _CHUNK_PAIRS // n)
    for first in range(0, n, step):
        rows = slice(first, min(first + step, n))
        block = h(rows)
        block.diagonal(first, -2, -1).zero_()
        total = total + (signs[rows] * (block @ signs)).sum(-2)
    assert isinstance(total, Tensor)
    return total / (n * (n - 1))


def unit_signs(n: int) -> Tensor:
    """(n, 1): the statistic itself."""
    return torch.ones(n, 1, dtype=torch.float64)


def random_signs(n: int, shuffles: int, generator: Generator) -> Tensor:
    """-1 or 1 with equal probability, (n, shuffles), float64 on the CPU."""
    return torch.randint(2, (n, shuffles), generator=generator).double() * 2 - 1


def null_quantile(values: Tensor) -> float:
    """What 95 % of the shuffles, (shuffles,), stay beneath."""
    return float(values.quantile(_NULL_LEVEL))
