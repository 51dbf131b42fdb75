"""Gauss-Legendre and grid quadrature for densities without a closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

_ELEMENTS_PER_TABLE = 2**16
"""Entries of a (points, nodes) table that fits into a core's cache."""


def gauss_legendre(low: float, high: float, nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes in (low, high) and weights of sum high - low, both (nodes,) float64."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    half = (high - low) / 2
    return torch.from_numpy(low + half * (x + 1)), torch.from_numpy(half * w)


def node_count(length: float, std: float) -> int:
    """Number of Gauss-Legendre nodes on a curve of this length with Gaussian noise `std`.

    Their spacing in the middle is pi / 2 times the mean. A spacing of 0.7 std there has a relative
    error of 2 exp(-2 pi^2 / 0.7^2) = 6e-18 near a straight curve. On the outside of a bend the
    error is larger, about 3e-4 at 15 std from a tight one.
    """
    return 16 + math.ceil(math.pi / 2 * length / (0.7 * std))


def log_kernel_sum(
    x: Tensor, nodes: Tensor, log_weights: Tensor, log_kernel: Callable[[Tensor], Tensor]
) -> Tensor:
    """log sum_j w_j prod_i k(x_i - c_ji), a sum over nodes c of a product over coordinates.

    Args:
        x: (batch, coordinates).
        nodes: (nodes, coordinates).
        log_weights: (nodes,).
        log_kernel: log k, elementwise.

    Returns:
        (batch,), in x's dtype.
    """
    nodes, log_weights = nodes.to(x), log_weights.to(x)
    parts = []
    for rows in x.split(max(1, _ELEMENTS_PER_TABLE // nodes.shape[0])):
        terms = log_weights
        for i in range(x.shape[1]):
            terms = terms + log_kernel(rows[:, i, None] - nodes[:, i])
        parts.append(terms.logsumexp(1))
    return torch.cat(parts) if parts else x.new_zeros(0)


def log_gaussian_sum(x: Tensor, centres: Tensor, weights: Tensor, std: float) -> Tensor:
    """log sum_j w_j N(x; c_j, std^2 I): (batch, d), (nodes, d), (nodes,) -> (batch,)."""
    log_constant = x.shape[1] * math.log(std * math.sqrt(2 * math.pi))
    factor = -0.5 / std**2
    return log_kernel_sum(
        x, centres, weights.log() - log_constant, lambda gap: factor * gap.square()
    )


def plane_entropy(
    log_prob: Callable[[Tensor], Tensor],
    low: tuple[float, float],
    high: tuple[float, float],
    spacing: float,
) -> float:
    """-integral p log p over a box, by the trapezoidal rule, whose error is exponentially small for
    smooth p.

    Args:
        log_prob: (batch, 2) -> (batch,).
        low, high: corners of a box outside of which p vanishes.
        spacing: of the grid; half the width of the narrowest feature suffices.
    """
    axes = [
        torch.arange(a, b, spacing, dtype=torch.float64) for a, b in zip(low, high, strict=True)
    ]
    log_p = log_prob(torch.cartesian_prod(*axes))
    return float(torch.special.entr(log_p.exp()).sum()) * spacing**2


_MIN_PAIRS = 2**20
"""(point, node) pairs below which a search for neighbours costs more than it saves."""


def neighbour_groups(
    x: Tensor, nodes: Tensor, *, std: float, extent: float = 0.0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Groups of neighbouring points, each with the nodes that contribute to it.

    The kernel of a node is a Gaussian of width `std`, convolved with a set of radius `extent`. A
    node is excluded from a group if its kernel is below exp(-24.5) = 2e-11 of the nearest node's at
    every point of the group, at any distance of the group from the nodes.

    Args:
        x: (batch, 2).
        nodes: (nodes, 2).

    Yields:
        Row numbers of x, each row in one group, and the row numbers of the group's `nodes`.
    """
    if x.shape[0] * nodes.shape[0] < _MIN_PAIRS:
        yield torch.arange(len(x), device=x.device), torch.arange(len(nodes), device=x.device)
        return
    cell = (x / (4 * std)).clamp(-1e6, 1e6).nan_to_num().floor().long()
    key = cell[:, 0] * 4_000_000 + cell[:, 1]
    order = key.argsort()
    sizes = key[order].unique_consecutive(return_counts=True)[1]
    for rows in order.split(sizes.tolist()):
        low, high = x[rows].amin(0), x[rows].amax(0)
        radius = (high - low).norm() / 2 + extent
        distance = torch.linalg.vector_norm(nodes - (low + high) / 2, dim=1)
        limit = ((distance.min() + radius).square() + 49 * std**2).sqrt() + radius
        # Negated: a NaN point then keeps every node and has a density of NaN.
        yield rows, (~(distance > limit)).nonzero()[:, 0]
