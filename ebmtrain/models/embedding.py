"""What a network sees of a point: the point scaled, and random Fourier features of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Embedding(nn.Module):
    """x -> [a * x, cos(W x), sin(W x)], W_ij ~ N(0, 2 / d * fourier_scale^2) drawn once and kept.

    d is n_inputs. Two points are as alike as exp(-fourier_scale^2 ||x - y||^2 / d) to the features
    (the mean of cos(W (x - y))), which depends on the mean square difference per coordinate and not
    on d: without the factor 2 / d, which is 1 in the plane, standardized points of ten dimensions
    would all be strangers to each other and nothing learnt at one would hold at the next.

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
        """dE/dx, given g = dE/dfeatures; cosine and sine are read back from the features."""
        if not len(self.frequencies):
            return g if self.scale == 1 else g * self.scale
        m, n_inputs = self.frequencies.shape
        direct, along_cos, along_sin = g.split([n_inputs, m, m], 1)
        _, cos, sin = features.split([n_inputs, m, m], 1)
        return direct * self.scale + (along_sin * cos - along_cos * sin) @ self.frequencies
