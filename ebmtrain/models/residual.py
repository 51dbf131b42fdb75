"""A residual network as an energy of images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar

from annotated_types import MinLen
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, silu
from torch.nn.utils import parametrizations

from ebmtrain.models.layers import (
    BaseStd,
    add_base_energy,
    base_precision,
    image_shape,
    init_lecun,
    marginal_energy,
)
from ebmtrain.types import Count, Space


class Residual(nn.Module):
    """E(x) = w . sum over pixels of silu(f(x)) + ||x||^2 / (2 * base_std^2), f a 3x3 convolution
    and then residual blocks h + B(silu(A(silu(h)))) with 3x3 convolutions A and B (He et al., ECCV
    2016), each followed by 2x2 average pooling.

    As in Du & Mordatch (NeurIPS 2019), without batch normalisation, which would make the energy of
    an image depend on other images, and with SiLU, which has a second derivative.

    Args:
        event_shape: (height, width), with one channel, or (channels, height, width), of any size:
            at odd edges the pooling averages the pixels that exist.
        widths: channels of each block. Where they change, the skip connection is a 1x1 convolution.
        spectral_norm: divide each weight by its largest singular value as a matrix (outputs,
            inputs * kernel pixels) (Miyato et al., ICLR 2018). It bounds the Lipschitz constant of
            a convolution by the side of its kernel, at most 3.
        base_std: standard deviation of the Gaussian base measure in units of x; null: none.
        classes: number of outputs w_y, one per class, as for `MLP`; null: one output, no classes.

    Shapes: (batch, *event_shape) -> (batch,).

    Raises:
        ValueError: the event is not an image.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"real", "binary"})

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        widths: Annotated[Sequence[Count], MinLen(1)] = (64, 128, 256),
        spectral_norm: bool = False,
        base_std: BaseStd | None = 2.0,
        classes: Count | None = None,
    ):
        super().__init__()
        self.image = image_shape(event_shape, "model=resnet")
        self.first = nn.Conv2d(self.image[0], widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            _ResidualBlock(*pair) for pair in pairwise([widths[0], *widths])
        )
        self.output = nn.Linear(widths[-1], classes or 1)
        self.classes = classes
        for layer in [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)]:
            init_lecun(layer)
            if spectral_norm:
                parametrizations.spectral_norm(layer)
        self.base_precision = base_precision(base_std)

    def forward(self, x: Tensor) -> Tensor:
        return add_base_energy(marginal_energy(self.outputs(x)), x, self.base_precision)

    def joint(self, x: Tensor) -> Tensor:
        """E(x, y) for every class, (batch, classes)."""
        return add_base_energy(self.outputs(x).T, x, self.base_precision).T

    def outputs(self, x: Tensor) -> Tensor:
        """Outputs, (batch, classes), or (batch, 1) without classes."""
        h = self.first(x.reshape(-1, *self.image))
        for block in self.blocks:
            h = avg_pool2d(block(h), 2, ceil_mode=True, count_include_pad=False)
        return self.output(silu(h).sum((2, 3)))


class _ResidualBlock(nn.Module):
    """h + B(silu(A(silu(h)))), (batch, inputs, height, width) -> (batch, outputs, height,
    width)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.inner = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.outer = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.across = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, h: Tensor) -> Tensor:
        skip = h if self.across is None else self.across(h)
        return skip + self.outer(silu(self.inner(silu(h))))
