"""A noise-conditional energy (Song & Ermon, NeurIPS 2019, for its score)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ebmtrain.models.layers import BaseStd
from ebmtrain.models.mlp import MLP
from ebmtrain.types import Count, NonNegative, Positive, WholeNumber


class NoiseConditionalMLP(nn.Module):
    """E(x, sigma) = MLP([x, c]),  c = log(sigma / sigma_min) / log(sigma_max / sigma_min).

    The noise level c, from 0 to 1, is one more coordinate of the input, also of its Fourier
    features. Without sigma this is the energy at sigma_min, c = 0, of the data convolved with
    N(0, sigma_min^2 I): sampling, figures and evaluation use it. The base measure adds a quadratic
    term in c, too, which is constant at each noise level and changes no density.

    Args:
        event_shape: shape of one point; its elements are the inputs.
        sigma_min, sigma_max: least and largest standard deviation of the noise, in (standardized)
            units of x; sigma_min < sigma_max.
        width, depth, activation, initialisation, input_scale, fourier_features, fourier_scale,
        base_std, spectral_norm: see `MLP`.

    Shapes: (batch, *event_shape) and (batch,) -> (batch,).
    """

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        sigma_min: Positive = 0.05,
        sigma_max: Positive = 1.0,
        width: Count = 128,
        depth: Count = 2,
        activation: Literal["silu", "softplus", "tanh", "leaky_relu"] = "silu",
        initialisation: Literal["lecun", "kaiming", "xavier", "orthogonal"] = "lecun",
        input_scale: Positive = 4.0,
        fourier_features: WholeNumber = 64,
        fourier_scale: NonNegative = 2.0,
        base_std: BaseStd | None = 1.5,
        spectral_norm: bool = False,
    ):
        super().__init__()
        if sigma_min >= sigma_max:
            raise ValueError(
                f"sigma_min={sigma_min} must be less than sigma_max={sigma_max}: "
                "lower model.sigma_min"
            )
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.mlp = MLP(
            event_shape=(math.prod(event_shape) + 1,),
            width=width,
            depth=depth,
            activation=activation,
            initialisation=initialisation,
            input_scale=input_scale,
            fourier_features=fourier_features,
            fourier_scale=fourier_scale,
            base_std=base_std,
            spectral_norm=spectral_norm,
        )

    def forward(self, x: Tensor, sigma: Tensor | None = None) -> Tensor:
        return self.mlp(self._append_noise_level(x, sigma))

    def energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x, sigma_min) and its derivative with respect to x."""
        energy, gradient = self.mlp.energy_and_gradient(self._append_noise_level(x, None))
        return energy, gradient[:, :-1].reshape(x.shape)

    def _append_noise_level(self, x: Tensor, sigma: Tensor | None) -> Tensor:
        """[x, c], (batch, d + 1); c = 0 without sigma."""
        flat = x.flatten(1)
        if sigma is None:
            return torch.cat([flat, flat.new_zeros(len(flat), 1)], 1)
        c = (sigma / self.sigma_min).log() / math.log(self.sigma_max / self.sigma_min)
        return torch.cat([flat, c[:, None].to(flat)], 1)
