"""Random augmentations: shift and flip of images, dequantization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.points import Points
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Batch


def augment(
    pixels: Tensor, augmentations: Sequence[Augmentation], seed: int, use: str, index: int = 0
) -> Tensor:
    """The images after all augmentations in order, each with its own random stream.

    Args:
        pixels: (n, *event).
        use: what the images are for; it names the random stream together with `seed` and `index`.
    """
    for augmentation in augmentations:
        pixels = augmentation(pixels, stream(seed, f"{augmentation.purpose} {use}", index))
    return pixels


@dataclass(frozen=True, eq=False)
class AugmentedPoints:
    """A `BatchSource` of training points that are augmented independently in each batch, since a
    model overfits noise that is the same in every epoch.

    Args:
        points: as they are observed, (n, *event).
        augmentations: applied to each batch in this order; the last returns float64.
    """

    points: Tensor
    augmentations: Sequence[Augmentation]

    def __call__(self, points: Points, step: int, size: int, seed: int) -> Batch:
        rows = points.rows(step, size, seed)
        x = augment(self.points[rows], self.augmentations, seed, "batch", step)
        return Batch(x, None if points.labels is None else points.labels.train[rows])


class Augmentation(Protocol):
    """A random map of images."""

    purpose: ClassVar[str]
    """Name of its random stream."""

    def __call__(self, pixels: Tensor, generator: Generator) -> Tensor:
        """(n, *event) -> (n, *event), on the CPU."""
        ...


@dataclass(frozen=True)
class RandomShift:
    """x'(i, j) = x(i - a, j - b), a and b independent and uniform in {-max_shift, ..., max_shift}
    for each image. Pixels beyond the edge repeat the edge (replication padding).

    Args:
        max_shift: in pixels, >= 1.
    """

    purpose: ClassVar[str] = "shift"
    max_shift: int

    def __call__(self, pixels: Tensor, generator: Generator) -> Tensor:
        n, (height, width) = len(pixels), pixels.shape[-2:]
        layers = pixels.view(n, -1, height, width)
        down, right = torch.randint(
            -self.max_shift, self.max_shift + 1, (2, n, 1), generator=generator
        )
        i = (torch.arange(height) - down).clamp(0, height - 1)
        j = (torch.arange(width) - right).clamp(0, width - 1)
        image, layer = torch.arange(n).view(-1, 1, 1, 1), torch.arange(layers.shape[1])
        shifted = layers[image, layer.view(1, -1, 1, 1), i[:, None, :, None], j[:, None, None, :]]
        return shifted.view(pixels.shape)


@dataclass(frozen=True)
class RandomFlip:
    """Horizontal flip of each image with probability 1/2."""

    purpose: ClassVar[str] = "flip"

    def __call__(self, pixels: Tensor, generator: Generator) -> Tensor:
        mirrored = torch.randint(2, (len(pixels),), generator=generator) == 1
        return torch.where(mirrored.view(-1, *[1] * (pixels.ndim - 1)), pixels.flip(-1), pixels)


@dataclass(frozen=True, eq=False)
class Dequantization:
    """x = k + h u, with u uniform in [0, 1), float64.

    Args:
        step: h >= 0, the distance of neighbouring values of an element, of a shape that broadcasts
            to (n, *event); 0: no noise. None: 1, for whole numbers k.
    """

    purpose: ClassVar[str] = "dequantize"
    step: Tensor | None = None

    def __call__(self, pixels: Tensor, generator: Generator) -> Tensor:
        # In place: a large set of images takes gigabytes.
        noise = torch.empty(pixels.shape, dtype=torch.float64)
        noise.uniform_(generator=generator)
        return (noise if self.step is None else noise.mul_(self.step)).add_(pixels)


@dataclass(frozen=True)
class PixelCentre:
    """x = k + 1/2 for whole numbers k, float64."""

    purpose: ClassVar[str] = "middle"

    def __call__(self, pixels: Tensor, generator: Generator) -> Tensor:
        return pixels.double().add_(0.5)
