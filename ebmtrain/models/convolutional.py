"""A strided convolutional network as an energy of images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from annotated_types import MinLen
from torch import Tensor, nn
from torch.nn.functional import silu

from ebmtrain.models.layers import (
    BaseStd,
    add_base_energy,
    base_precision,
    image_shape,
    init_lecun,
    marginal_energy,
)
from ebmtrain.types import Count


class Convolutional(nn.Module):
    """E(x) = w . f(x) + ||x||^2 / (2 * base_std^2), f a convolution of 3x3, then some of 4x4 and
    stride 2, each followed by SiLU; w sees all that is left of the image, place by place.

    The usual energy of short-run and replay-buffer training (Nijkamp et al., NeurIPS 2019; Du &
    Mordatch, NeurIPS 2019): a kernel of 4 at stride 2 covers all pixels alike, and nothing is
    pooled, so that gradients have no holes. No normalisation of batches: the energy of one image
    must not depend on others.

    Args:
        event_shape: (height, width), which is one channel, or (channels, height, width). Each layer
            but the first halves height and width, rounding down; nothing is cut off.
        widths: channels of each layer: the first keeps the size, each further one halves it.
        base_std: standard deviation of the Gaussian base measure in units of x; null: none.
        classes: outputs w_y, one for each class, as of `MLP`; null: a single one, and no classes.

    Shapes: (batch, *event_shape) -> (batch,).

    Raises:
        ValueError: the event is no image, or too small to be halved so often.
    """

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        widths: Annotated[Sequence[Count], MinLen(1)] = (32, 64, 128, 256),
        base_std: BaseStd | None = None,
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
                f"model=conv halves images {halvings} times, and {height} x {width} pixels can be "
                f"halved {fit} times: give model.widths=[{shorter}]"
            )
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.strided = nn.ModuleList(
            nn.Conv2d(*pair, 4, stride=2, padding=1) for pair in pairwise(widths)
        )
        left = (height >> halvings) * (width >> halvings)
        self.output = nn.Linear(widths[-1] * left, classes or 1)
        self.classes = classes
        for layer in (self.first, *self.strided, self.output):
            init_lecun(layer)  # type: ignore[arg-type]
        self.base_precision = base_precision(base_std)

    def forward(self, x: Tensor) -> Tensor:
        return add_base_energy(marginal_energy(self.outputs(x)), x, self.base_precision)

    def joint(self, x: Tensor) -> Tensor:
        """E(x, y) of every class, (batch, classes)."""
        return add_base_energy(self.outputs(x).T, x, self.base_precision).T

    def outputs(self, x: Tensor) -> Tensor:
        """(batch, classes), or (batch, 1) without classes."""
        h = silu(self.first(x.reshape(-1, *self.image)))
        for layer in self.strided:
            h = silu(layer(h))
        return self.output(h.flatten(1))
