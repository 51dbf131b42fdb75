"""Components that several models share: Fourier features, initialisation, base measure, layout of
images and sequences."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor, nn

from ebmtrain.masks import fill_zeros, step_mask


class FourierFeatures(nn.Module):
    """x -> [a * x, cos(W x), sin(W x)], with a fixed random W_ij ~ N(0, 2 / d * fourier_scale^2).

    d is n_inputs and a is scale. The kernel of the features, the mean of cos(W (x - y)), is
    exp(-fourier_scale^2 ||x - y||^2 / d). It depends on the mean square difference per coordinate
    and not on d. Without the factor 2 / d (1 in the plane) the kernel would vanish between any two
    standardized points of ten dimensions, and the network would not generalise.

    Source: Rahimi & Recht (NeurIPS 2007); Tancik et al. (NeurIPS 2020) for networks.
    Shapes: (batch, n_inputs) -> (batch, n_inputs + 2 * n_frequencies).
    """

    frequencies: Tensor

    def __init__(self, n_inputs: int, scale: float, n_frequencies: int, fourier_scale: float):
        super().__init__()
        self.scale = scale
        self.n_features = n_inputs + 2 * n_frequencies
        std = fourier_scale * math.sqrt(2 / n_inputs)
        self.register_buffer("frequencies", std * torch.randn(n_frequencies, n_inputs))

    def forward(self, x: Tensor) -> Tensor:
        if not len(self.frequencies):
            return x if self.scale == 1 else x * self.scale
        phase = x @ self.frequencies.T
        return torch.cat([x * self.scale, phase.cos(), phase.sin()], 1)

    def pullback(self, features: Tensor, g: Tensor) -> Tensor:
        """dE/dx from g = dE/dfeatures, (batch, n_inputs); cosine and sine are taken from the
        features."""
        if not len(self.frequencies):
            return g if self.scale == 1 else g * self.scale
        m, n_inputs = self.frequencies.shape
        direct, along_cos, along_sin = g.split([n_inputs, m, m], 1)
        _, cos, sin = features.split([n_inputs, m, m], 1)
        return direct * self.scale + (along_sin * cos - along_cos * sin) @ self.frequencies


def marginal_energy(f: Tensor) -> Tensor:
    """-log sum_y exp(-f_y), (batch, classes) -> (batch,): the energy marginalised over the classes.
    A single output is returned as it is."""
    return f.squeeze(1) if f.shape[1] == 1 else -torch.logsumexp(-f, 1)


def image_shape(event_shape: tuple[int, ...], model: str) -> tuple[int, int, int]:
    """(channels, height, width) of an event; an event (height, width) has one channel.

    Args:
        model: name of the model, for the message.

    Raises:
        ValueError: the event is not an image.
    """
    if len(event_shape) not in (2, 3):
        raise ValueError(
            f"{model} takes images, events of shape (height, width) or (channels, height, width), "
            f"got {event_shape}: choose model=mlp, or a data set of images"
        )
    channels, height, width = (1, *event_shape)[-3:]
    return channels, height, width


def init_lecun(layer: nn.Conv2d | nn.Linear) -> None:
    """LeCun initialisation: weights of variance 1 / (inputs per unit), biases 0."""
    nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


BaseStd = Annotated[float, Ge(1e-6)]  # the precision of the base measure must be finite


def base_precision(base_std: BaseStd | None) -> float:
    """1 / base_std^2; 0 without a base measure."""
    return 0.0 if base_std is None else base_std**-2


def add_base_energy(energy: Tensor, x: Tensor, precision: float) -> Tensor:
    """energy + precision * ||x||^2 / 2, shape (..., batch); x is (batch, *event)."""
    if not precision:
        return energy
    return energy.add(x.flatten(1).square().sum(1), alpha=0.5 * precision)


class SequenceLayout(NamedTuple):
    """Shape of a point as a sequence."""

    length: int
    channels: int
    ragged: bool = False
    """Sequences have different lengths: see `masks`."""

    @classmethod
    def of(cls, event_shape: tuple[int, ...], ragged: bool = False) -> SequenceLayout:
        """The layout of events (length, channels), or (length,) for one channel.

        Raises:
            ValueError: the event has another number of axes.
        """
        if len(event_shape) not in (1, 2):
            raise ValueError(
                "the model takes sequences, (length, channels) or (length,), and points have shape "
                f"{tuple(event_shape)}: choose another model or dataset"
            )
        length, channels = event_shape if len(event_shape) == 2 else (event_shape[0], 1)
        return cls(length, channels, ragged)

    def read(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Points (batch, *event) with NaN as padding as sequences, (batch, length, channels), with
        zeros as padding, and their mask, (batch, length): True at the steps of a sequence; None:
        all are True."""
        x = x.reshape(-1, self.length, self.channels)
        if not self.ragged:  # a NaN is then an invalid value, and passes on
            return x, None
        mask = step_mask(x)
        return fill_zeros(x, mask), mask
