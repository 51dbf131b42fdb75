"""Which nodes of a quadrature matter to which points."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_WORTHWHILE = 2**20
"""Below so many (point, node) pairs, finding neighbours costs more than it saves."""


def neighbourhoods(
    x: Tensor, nodes: Tensor, *, std: float, extent: float = 0.0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Groups of points close together, each with the nodes that matter to it.

    A node's kernel is a Gaussian of width `std`, smeared over a set of radius `extent`. A node is
    left out where its kernel is below exp(-24.5) = 2e-11 of the nearest node's at every point of
    the group, however far from all nodes the group lies.

    Args:
        x: (batch, 2).
        nodes: (nodes, 2).

    Yields:
        Row numbers of x, each row once over all groups, and the kept row numbers of `nodes`.
    """
    if x.shape[0] * nodes.shape[0] < _WORTHWHILE:
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
        # Negated so that NaN keeps every node and comes out as NaN.
        yield rows, (~(distance > limit)).nonzero()[:, 0]
