"""What is watched along chains: each coordinate, or in high dimension the first principal axes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MOST = 8  # quantities beside the energy
_FEW = 500  # points that principal axes are computed from


class Watched(NamedTuple):
    names: list[str]
    axes: Tensor | None
    """(d, watched), orthonormal; None: every coordinate."""

    def of(self, points: Tensor) -> Tensor:
        """(n, *event) -> (n, watched)."""
        flat = points.flatten(1)
        return flat if self.axes is None else flat @ self.axes.to(flat)


def watched(points: Tensor) -> Watched:
    """What to watch of chains whose draws are about as `points`, (n, *event): each coordinate, and
    of more than MOST the first principal axes, along which modes are farthest apart."""
    flat = points.flatten(1).double()
    d = flat.shape[1]
    if d <= MOST:
        return Watched([f"coordinate {i + 1}" for i in range(d)], None)
    few = flat[:: -(-len(flat) // _FEW)]
    _, _, axes = torch.linalg.svd(few - few.mean(0), full_matrices=False)
    kept = axes[:MOST].T
    return Watched([f"principal axis {i + 1}" for i in range(kept.shape[1])], kept)
