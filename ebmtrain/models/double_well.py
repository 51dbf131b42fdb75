"""Double well: a quartic potential in one coordinate, harmonic in the others."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ebmtrain.types import Count, Positive


class DoubleWell(nn.Module):
    """E(x) = barrier * ((x_1 / a)^2 - 1)^2 + tilt * x_1 / a + stiffness * sum_{i > 1} x_i^2 / 2.

    Minima near x_1 = -a and x_1 = +a, saddle point near x_1 = 0. No parameters are trained. The
    rate of crossings is proportional to exp(-barrier) (Kramers, Physica 7, 1940): local samplers
    find a well quickly and its weight slowly. The same family as in Noe et al. (Science 365, 2019),
    figure 2.

    Args:
        dim: number of coordinates; all but the first are harmonic.
        barrier: > 0, height of the saddle point above the minima at tilt 0, in nats.
        half_distance: a > 0, in units of x.
        tilt: about half the difference of the two minima, in nats; positive favours x_1 < 0.
        stiffness: > 0, of the other coordinates, in nats per squared unit of x.

    Shapes: (batch, dim) -> (batch,).
    """

    def __init__(
        self,
        *,
        dim: Count = 2,
        barrier: Positive = 4.0,
        half_distance: Positive = 1.5,
        tilt: float = 0.0,
        stiffness: Positive = 2.0,
    ):
        super().__init__()
        self.barrier, self.half_distance = barrier, half_distance
        self.tilt, self.stiffness = tilt, stiffness
        self.event_shape = (dim,)
        # Beyond u^2 = 1 + t the first term alone is barrier * t^2: 12 nats bound it.
        height = 12 + 2 * abs(tilt)
        reach = half_distance * math.sqrt(1 + math.sqrt(height / barrier))
        side = 4 / math.sqrt(stiffness)
        high = (reach, *[side] * (dim - 1))
        self.window = (tuple(-h for h in high), high)

    def forward(self, x: Tensor) -> Tensor:
        u = x[:, 0] / self.half_distance
        well = self.barrier * (u.square() - 1).square() + self.tilt * u
        return well + self.stiffness * x[:, 1:].square().sum(1) / 2

    def energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and dE/dx = ((4 barrier u (u^2 - 1) + tilt) / a, stiffness x_2, ...), u = x_1/a."""
        u = x[:, :1] / self.half_distance
        slope = (4 * self.barrier * u * (u.square() - 1) + self.tilt) / self.half_distance
        return self(x), torch.cat([slope, self.stiffness * x[:, 1:]], 1)
