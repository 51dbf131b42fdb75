"""Images that are a little different each time that they are seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ebmtrain.datasets.changes import Change
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.sending import sent
from ebmtrain.seeding import stream
from ebmtrain.types import Batch


def changed(
    pixels: Tensor, changes: Sequence[Change], seed: int, use: str, index: int = 0
) -> Tensor:
    """All changes, one after the other, each with random numbers of its own.

    Args:
        pixels: (n, *event).
        use: what the images are for; with `seed` and `index` it says which random numbers.
    """
    for change in changes:
        pixels = change(pixels, stream(seed, f"{change.purpose} {use}", index))
    return pixels


class Redrawn:
    """A `Dataset` of images with changes that are drawn anew for each batch: noise that were always
    the same would be learnt by heart.

    A batch depends on (step, size, seed) alone: a resumed run sees what the unbroken one would have
    seen. `train` is one draw: units, region, fitted noise and pictures come from it.

    Args:
        images: as they are, (n, *event), whole numbers.
        changes: of a batch, in this order; they end in float64.
        points: one draw of them, with its units.
    """

    def __init__(
        self,
        images: Tensor,
        changes: Sequence[Change],
        points: Points,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.images, self.changes, self.points = images, changes, points
        self.train, self.holdout = points.train, points.holdout
        self.standardization, self.truth = points.standardization, points.truth
        self.pixels, self.labels = points.pixels, points.labels
        self.anomalies = points.anomalies
        self.dtype, self.device = dtype, device

    def to(self, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Redrawn:
        return Redrawn(self.images, self.changes, self.points, dtype=dtype, device=device)

    def batch(self, step: int, size: int, seed: int) -> Batch:
        """As of `Points`, with changes of its own."""
        # Drawn on the CPU, so that every device sees the same batches.
        rows = self.points.rows(step, size, seed)
        x = changed(self.images[rows], self.changes, seed, "batch", step)
        x = sent(self.standardization.to_standard(x), self.device, self.dtype)
        y = None if self.labels is None else sent(self.labels.train[rows], self.device)
        return Batch(x, y)
