"""Points that are whole numbers, with other noise upon them each time that they are seen."""

from __future__ import annotations

import torch

from ebmtrain.datasets.points import Points
from ebmtrain.seeding import stream
from ebmtrain.types import Batch


class Dequantized:
    """A `Dataset` of x = k + u, k whole numbers, u uniform in [0, 1) and drawn anew for each batch:
    noise that were always the same would be learnt by heart.

    A batch depends on (step, size, seed) alone: a resumed run sees what the unbroken one would have
    seen. `train` is one draw: units, fitted noise and pictures come from it.

    Args:
        points: one draw, with its units.
    """

    def __init__(
        self,
        points: Points,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.points = points
        self.train, self.holdout = points.train, points.holdout
        self.standardization, self.truth = points.standardization, points.truth
        self.pixels, self.labels = points.pixels, points.labels
        self.dtype, self.device = dtype, device

    def to(self, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Dequantized:
        return Dequantized(self.points, dtype=dtype, device=device)

    def batch(self, step: int, size: int, seed: int) -> Batch:
        """As of `Points`, with noise of its own."""
        # Drawn on the CPU, so that every device sees the same batches.
        rows = self.points.rows(step, size, seed)
        k = self.train[rows].floor()
        u = torch.empty_like(k).uniform_(generator=stream(seed, "dequantize batch", step))
        x = self.standardization.to_standard(k + u).to(self.device, self.dtype)
        return Batch(x, None if self.labels is None else self.labels.train[rows].to(self.device))
