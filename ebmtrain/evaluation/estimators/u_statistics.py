"""U-statistics over pairs of points, and their null distribution by random signs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

_CHUNK_PAIRS = 2**19
_FLOOR_LEVEL = 0.95


def u_statistics(h: Callable[[slice], Tensor], n: int, signs: Tensor) -> Tensor:
    """Signed U-statistics 1 / (n (n - 1)) * sum_{i != j} w_i w_j h_ij for each sign vector w.
    Without the diagonal they are unbiased; where the expectation is zero, a value may be negative.

    Under the null hypothesis E[h(z, z')] = 0 for every z, random signs w leave the distribution of
    the sum approximately unchanged (exactly, if h(z, z') is odd in z). They give the null
    distribution of the statistic.

    Args:
        h: rows -> those rows of a symmetric matrix, (..., rows, n).
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
    """Signs of 1, (n, 1), which give the statistic itself."""
    return torch.ones(n, 1, dtype=torch.float64)


def random_signs(n: int, shuffles: int, generator: Generator) -> Tensor:
    """-1 or 1 with equal probability, (n, shuffles), float64 on the CPU."""
    return torch.randint(2, (n, shuffles), generator=generator).double() * 2 - 1


def null_quantile(values: Tensor) -> float:
    """95 % quantile of the values under the null hypothesis, (shuffles,): the floor of a metric."""
    return float(values.quantile(_FLOOR_LEVEL))
