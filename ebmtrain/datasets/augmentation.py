"""Images that are a little different each time that they are seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.points import Points, sent
from ebmtrain.runtime.seeding import stream
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


class Change(Protocol):
    purpose: ClassVar[str]
    """Names its random numbers."""

    def __call__(self, pixels: Tensor, generator: Generator) -> Tensor:
        """(n, *event) -> (n, *event), on the CPU."""
        ...


@dataclass(frozen=True)
class Shift:
    """x'(i, j) = x(i - a, j - b), a and b independent and uniform in {-most, ..., most}, of each
    image its own. Where x ends, the pixel at its edge goes on: paper stays paper, and there is no
    frame around a photograph.

    Args:
        most: pixels, >= 1.
    """

    purpose: ClassVar[str] = "shift"
    most: int

    def __call__(self, pixels: Tensor, generator: Generator) -> Tensor:
        n, (height, width) = len(pixels), pixels.shape[-2:]
        layers = pixels.view(n, -1, height, width)
        down, across = torch.randint(-self.most, self.most + 1, (2, n, 1), generator=generator)
        i = (torch.arange(height) - down).clamp(0, height - 1)
        j = (torch.arange(width) - across).clamp(0, width - 1)
        image, layer = torch.arange(n).view(-1, 1, 1, 1), torch.arange(layers.shape[1])
        moved = layers[image, layer.view(1, -1, 1, 1), i[:, None, :, None], j[:, None, None, :]]
        return moved.view(pixels.shape)


@dataclass(frozen=True)
class Flip:
    """Left and right exchanged in every second image, at random."""

    purpose: ClassVar[str] = "flip"

    def __call__(self, pixels: Tensor, generator: Generator) -> Tensor:
        mirrored = torch.randint(2, (len(pixels),), generator=generator) == 1
        return torch.where(mirrored.view(-1, *[1] * (pixels.ndim - 1)), pixels.flip(-1), pixels)


@dataclass(frozen=True)
class Noise:
    """x = k + u of whole numbers k, u uniform in [0, 1), float64."""

    purpose: ClassVar[str] = "dequantize"

    def __call__(self, pixels: Tensor, generator: Generator) -> Tensor:
        # In place: a data set of photographs takes gigabytes.
        return (
            torch.empty(pixels.shape, dtype=torch.float64)
            .uniform_(generator=generator)
            .add_(pixels)
        )


@dataclass(frozen=True)
class Middle:
    """x = k + 1/2, float64."""

    purpose: ClassVar[str] = "middle"

    def __call__(self, pixels: Tensor, generator: Generator) -> Tensor:
        return pixels.double().add_(0.5)
