"""A strided convolutional network as an energy of images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar

from annotated_types import MinLen
from torch import Tensor, nn
from torch.nn.functional import silu

from ebmtrain.errors import counted
from ebmtrain.models.layers import (
    BaseStd,
    add_base_energy,
    base_precision,
    image_shape,
    init_lecun,
    marginal_energy,
)
from ebmtrain.types import Count, Space


class Convolutional(nn.Module):
    """E(x) = w . f(x) + ||x||^2 / (2 * base_std^2), f a 3x3 convolution and then 4x4 convolutions
    of stride 2, each followed by SiLU; w is linear in the flattened feature map.

    The usual energy of short-run and replay-buffer training (Nijkamp et al., NeurIPS 2019; Du &
    Mordatch, NeurIPS 2019). A 4x4 kernel at stride 2 covers all pixels equally often, and without
    pooling every pixel has a gradient. There is no batch normalisation: the energy of an image must
    not depend on other images.

    Args:
        event_shape: (height, width), with one channel, or (channels, height, width). Each layer but
            the first halves height and width, rounded down; no pixel is discarded.
        widths: channels of each layer. The first keeps the image size, each further one halves it.
        base_std: standard deviation of the Gaussian base measure in units of x; null: none.
        classes: number of outputs w_y, one per class, as for `MLP`; null: one output, no classes.

    Shapes: (batch, *event_shape) -> (batch,).

    Raises:
        ValueError: the event is not an image, or too small for the number of layers.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"real", "binary"})

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        widths: Annotated[Sequence[Count], MinLen(1)] = (32, 64, 128, 256),
        base_std: BaseStd | None = 2.0,
        classes: Count | None = None,
    ):
        super().__init__()
        self.image = image_shape(event_shape, "model=conv")
        channels, height, width = self.image
        halvings = len(widths) - 1
        fit = min(height, width).bit_length() - 1
        if halvings > fit:
            shorter = ",".join(map(str, widths[: fit + 1]))
            raise ValueError(
                f"model=conv halves images {counted(halvings, 'time')}, and {height} x {width} "
                f"pixels can be halved {counted(fit, 'time')}: give model.widths=[{shorter}]"
            )
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.strided = nn.ModuleList(
            nn.Conv2d(*pair, 4, stride=2, padding=1) for pair in pairwise(widths)
        )
        n_pixels = (height >> halvings) * (width >> halvings)
        self.output = nn.Linear(widths[-1] * n_pixels, classes or 1)
        self.classes = classes
        for layer in (self.first, *self.strided, self.output):
            init_lecun(layer)  # type: ignore[arg-type]
        self.base_precision = base_precision(base_std)

    def forward(self, x: Tensor) -> Tensor:
        return add_base_energy(marginal_energy(self.outputs(x)), x, self.base_precision)

    def joint(self, x: Tensor) -> Tensor:
        """E(x, y) for every class, (batch, classes)."""
        return add_base_energy(self.outputs(x).T, x, self.base_precision).T

    def outputs(self, x: Tensor) -> Tensor:
        """Outputs w_y . f(x), (batch, classes), or (batch, 1) without classes."""
        h = silu(self.first(x.reshape(-1, *self.image)))
        for layer in self.strided:
            h = silu(layer(h))
        return self.output(h.flatten(1))
