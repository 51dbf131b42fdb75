"""Anisotropic harmonic potential, on which the error of a sampler is known in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ebmtrain.types import Count, Positive


class Harmonic(nn.Module):
    """E(x) = sum_i k_i x_i^2 / 2,  k_i from `stiffness` to `stiffness * condition`, geometrically.

    A Gaussian with variances 1 / k_i. No parameters are trained. The largest k_i bounds the step
    size of a sampler and the smallest determines the number of steps, so `condition` measures the
    difficulty (Neal, MCMC using Hamiltonian dynamics, 2011, section 5.3).

    Args:
        dim: d, number of coordinates.
        stiffness: k_1 > 0, in nats per squared unit of x.
        condition: k_d / k_1 > 0; 1: isotropic.

    Shapes: (batch, dim) -> (batch,).
    """

    stiffnesses: Tensor

    def __init__(self, *, dim: Count = 2, stiffness: Positive = 1.0, condition: Positive = 4.0):
        super().__init__()
        exponents = torch.linspace(0, 1, dim, dtype=torch.float64)
        k = stiffness * condition**exponents
        self.event_shape = (dim,)
        reach = [4 / math.sqrt(k_i) for k_i in k.tolist()]
        self.window = (tuple(-r for r in reach), tuple(reach))
        self.register_buffer("stiffnesses", k.to(torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        return (self.stiffnesses * x.square()).sum(1) / 2

    def energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and dE/dx_i = k_i x_i."""
        gradient = self.stiffnesses * x
        return (gradient * x).sum(1) / 2, gradient

    def log_z(self, temperature: float) -> Tensor:
        """log of the integral of exp(-E / T): sum_i log(2 pi T / k_i) / 2, shape ()."""
        return (2 * math.pi * temperature / self.stiffnesses).log().sum() / 2
