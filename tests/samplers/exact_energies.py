"""Energies whose every moment is known, and how far an estimate may be from one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Quadratic(nn.Module):
    """E(x) = a ||x||^2 / 2, for events of any shape; exp(-E / T) has variance T / a."""

    def __init__(self, a: float = 1.0):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(float(a), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.a.to(x) * x.flatten(1).square().sum(1) / 2

    def draw(self, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """(n, 2) exact points, float64."""
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return noise * (temperature / self.a.detach()) ** 0.5


class Quartic(nn.Module):
    """E(x) = sum_i x_i^4 / 4: nothing about it is Gaussian. E[x_i dE/dx_i] = E[x_i^4] = T."""

    def forward(self, x: Tensor) -> Tensor:
        return x.pow(4).flatten(1).sum(1) / 4
