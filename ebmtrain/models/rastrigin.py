"""Rastrigin function: a quadratic bowl with a cosine ripple of period 1."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ebmtrain.types import Count, NonNegative, Positive


class Rastrigin(nn.Module):
    """E(x) = scale * sum_i (x_i^2 + amplitude * (1 - cos(2 pi x_i))).

    No parameters are trained. There is a minimum near each integer point, 2 * amplitude * scale
    nats deep. The quadratic term makes exp(-E) normalisable, with an envelope of variance 1 / (2
    scale). At the original scale of 1 the barrier between neighbours is 20 nats, which local chains
    do not cross; at the default of 0.3 it is 6.

    Source: Rastrigin (Systems of Extremal Control, 1974), amplitude 10, scale 1, |x_i| <= 5.12; in
    any dimension Muehlenbein et al. (Parallel Computing 17, 1991).

    Args:
        dim: number of coordinates.
        amplitude: >= 0, of the ripple.
        scale: > 0, in nats per squared unit of x.

    Shapes: (batch, dim) -> (batch,).
    """

    def __init__(self, *, dim: Count = 2, amplitude: NonNegative = 10.0, scale: Positive = 0.3):
        super().__init__()
        self.amplitude, self.scale = amplitude, scale
        self.event_shape = (dim,)
        reach = 4 / math.sqrt(2 * scale) + 0.5  # to the middle between two minima
        self.window = ((-reach,) * dim, (reach,) * dim)

    def forward(self, x: Tensor) -> Tensor:
        ripple = self.amplitude * (1 - (2 * math.pi * x).cos())
        return self.scale * (x.square() + ripple).sum(1)

    def energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and dE/dx_i = 2 scale * (x_i + pi * amplitude * sin(2 pi x_i))."""
        slope = x + math.pi * self.amplitude * (2 * math.pi * x).sin()
        return self(x), 2 * self.scale * slope
