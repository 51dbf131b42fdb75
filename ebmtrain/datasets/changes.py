"""What an image may look like as well: moved, mirrored, with noise on its whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Generator, Tensor


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
