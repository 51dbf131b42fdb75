"""Ackley function: a funnel with cosine ripples that levels off far from the origin."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ebmtrain.types import Count, Positive


class Ackley(nn.Module):
    """E(x) = scale * f(x) + wall / 2 * sum_i max(|x_i| - bound, 0)^2,

        f(x) = 20 - 20 exp(-0.2 sqrt(mean_i x_i^2)) + e - exp(mean_i cos(2 pi x_i)).

    No parameters are trained. f levels off at 20 to 22.4, so the integral of exp(-scale * f) is
    infinite. The soft wall makes it finite and does not change f within |x_i| <= bound. In two
    dimensions at scale 1 the probability is concentrated in the funnel, with 1e-3 beyond the bound.
    In higher dimensions f has the same height while the volume grows: choose a larger scale or a
    smaller bound.

    Source: Ackley (A Connectionist Machine for Genetic Hillclimbing, Kluwer, 1987), scale 1,
    |x_i| <= 32.768, without the wall.

    Args:
        dim: number of coordinates.
        scale: > 0, in nats.
        bound: > 0, position of the wall, in units of x.
        wall: > 0, stiffness of the wall, in nats per squared unit of x.

    Shapes: (batch, dim) -> (batch,).
    """

    def __init__(
        self,
        *,
        dim: Count = 2,
        scale: Positive = 1.0,
        bound: Positive = 4.0,
        wall: Positive = 10.0,
    ):
        super().__init__()
        self.scale, self.bound, self.wall = scale, bound, wall
        self.event_shape = (dim,)
        reach = bound + 2 / math.sqrt(wall)
        self.window = ((-reach,) * dim, (reach,) * dim)

    def forward(self, x: Tensor) -> Tensor:
        funnel, ripple = self._terms(x)
        beyond = (x.abs() - self.bound).clamp(min=0)
        return self.scale * (20 + math.e - funnel - ripple) + self.wall / 2 * beyond.square().sum(1)

    def energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and dE/dx; 0 at the origin, where f is not differentiable."""
        (funnel, ripple), d = self._terms(x), x.shape[1]
        distance = torch.linalg.vector_norm(x, dim=1) * math.sqrt(d)  # d * sqrt(mean x_i^2)
        radial = torch.where(distance > 0, 0.2 * funnel / distance, 0)[:, None] * x
        periodic = 2 * math.pi / d * ripple[:, None] * (2 * math.pi * x).sin()
        beyond = x - x.clamp(-self.bound, self.bound)
        return self(x), self.scale * (radial + periodic) + self.wall * beyond

    def _terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """20 exp(-0.2 sqrt(mean_i x_i^2)) and exp(mean_i cos(2 pi x_i)), each (batch,)."""
        # vector_norm, because the derivative of sqrt is NaN at 0.
        rms = torch.linalg.vector_norm(x, dim=1) / math.sqrt(x.shape[1])
        return 20 * (-0.2 * rms).exp(), (2 * math.pi * x).cos().mean(1).exp()
