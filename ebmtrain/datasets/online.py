"""Batches that are drawn anew at every step: training on the density itself, not on a sample."""

from __future__ import annotations

import torch

from ebmtrain.datasets.points import Points, to_device
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Batch, Density


class OnlineDataset:
    """A `Dataset` whose batch `step` is independent of all others, so that nothing can be learnt by
    heart.

    It depends on (step, size, seed) alone: a resumed run sees what the unbroken one would have
    seen. `train` is a sample of the same density: units, fitted noise and pictures come from it.

    Args:
        points: train, holdout and the units.
        truth: where the batches come from.
    """

    def __init__(
        self,
        points: Points,
        truth: Density,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.points, self.truth = points, truth
        self.train, self.holdout = points.train, points.holdout
        self.standardization, self.support = points.standardization, points.support
        self.dtype, self.device = dtype, device

    def to(self, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> OnlineDataset:
        return OnlineDataset(self.points, self.truth, dtype=dtype, device=device)

    def batch(self, step: int, size: int, seed: int) -> Batch:
        # Drawn on the CPU, so that every device sees the same batches.
        x = self.truth.sample(size, stream(seed, "fresh", step))
        return Batch(to_device(self.standardization.to_standard(x), self.device, self.dtype))
