"""Training on independent samples of a density, a new batch for every update."""

from __future__ import annotations

import torch

from ebmtrain.datasets.points import Points, to_device
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Batch, Density


class OnlineDataset:
    """A `Dataset` whose batches are independent samples, so that a model cannot overfit.

    A batch is a function of (step, size, seed): a resumed run sees the batches of an uninterrupted
    one. `train` is a sample of the same density; units, fitted noise and figures use it.

    Args:
        points: training points, held-out points and units.
        truth: density of the batches.
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
        # On the CPU, so that every device gets the same batches.
        x = self.truth.sample(size, stream(seed, "fresh", step))
        return Batch(to_device(self.standardization.to_standard(x), self.device, self.dtype))
