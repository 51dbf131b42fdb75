"""A Gaussian as an energy, whose maximum likelihood has a closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ebmtrain.types import Positive


class Gaussian(nn.Module):
    """E(x) = (x - mu)' P (x - mu) / 2,  P = L L',  L lower triangular with a positive diagonal.

    Every value of the parameters gives a valid precision P: the diagonal of L is the exponential of
    `log_diagonal`, and only the elements of `lower` below the diagonal are used. The maximum of the
    likelihood is at the mean and the inverse covariance of the data, so this is the first model to
    test a new method or sampler with.

    Args:
        event_shape: shape of one point; its d elements are the coordinates.
        initial_std: > 0, initial standard deviation of every coordinate, in units of x.

    Shapes: (batch, *event_shape) -> (batch,). d (d + 3) / 2 free parameters.
    """

    def __init__(self, *, event_shape: tuple[int, ...], initial_std: Positive = 1.0):
        super().__init__()
        d = math.prod(event_shape)
        self.mean = nn.Parameter(torch.zeros(d))
        self.log_diagonal = nn.Parameter(torch.full((d,), -math.log(initial_std)))
        self.lower = nn.Parameter(torch.zeros(d, d))

    def forward(self, x: Tensor) -> Tensor:
        return ((x.flatten(1) - self.mean) @ self.factor).square().sum(1) / 2

    def energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and dE/dx = P (x - mu)."""
        factor = self.factor
        white = (x.flatten(1) - self.mean) @ factor
        return white.square().sum(1) / 2, (white @ factor.T).view_as(x)

    @property
    def factor(self) -> Tensor:
        """L, shape (d, d)."""
        return self.lower.tril(-1) + self.log_diagonal.exp().diag()

    def log_z(self, temperature: float) -> Tensor:
        """log of the integral of exp(-E / T): d / 2 * log(2 pi T) - log det L, shape ()."""
        return len(self.mean) / 2 * math.log(2 * math.pi * temperature) - self.log_diagonal.sum()
