"""Rosenbrock function: a narrow curved valley."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ebmtrain.types import Positive


class Rosenbrock(nn.Module):
    """E(x) = scale * ((a - x_1)^2 + b * (x_2 - x_1^2)^2).

    No parameters are trained. exp(-E) is x_1 ~ N(a, 1 / (2 scale)), x_2 given x_1 ~ N(x_1^2, 1 / (2
    scale b)): sampling and log Z have closed forms, but the two length scales are difficult for
    chains. Two dimensions only: in more, the coupled sum has no log Z in closed form.

    Source: Rosenbrock (The Computer Journal 3, 1960), a = 1, b = 100; as a density Goodman & Weare
    (CAMCoS 5(1), 2010), scale = 1/20. The defaults here are milder, for one figure.

    Args:
        a: position of the minimum along the valley, in units of x_1.
        b: > 0, ratio of the curvatures across and along the valley.
        scale: > 0, in nats.

    Shapes: (batch, 2) -> (batch,).
    """

    def __init__(self, *, a: float = 1.0, b: Positive = 10.0, scale: Positive = 1.0):
        super().__init__()
        self.a, self.b, self.scale = a, b, scale
        self.event_shape = (2,)
        side, end = 4 / math.sqrt(2 * scale), 4 / math.sqrt(2 * scale * b)
        top = max((a - side) ** 2, (a + side) ** 2)
        self.window = ((a - side, -end), (a + side, top + end))

    def forward(self, x: Tensor) -> Tensor:
        u, v = x.unbind(1)
        return self.scale * ((self.a - u).square() + self.b * (v - u.square()).square())

    def energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and dE/dx = scale * (-2 (a - x_1) - 4 b x_1 w, 2 b w), w = x_2 - x_1^2."""
        u, v = x.unbind(1)
        w = v - u.square()
        du = -2 * (self.a - u) - 4 * self.b * u * w
        return self(x), self.scale * torch.stack([du, 2 * self.b * w], 1)

    def log_z(self, temperature: float) -> Tensor:
        """log of the integral of exp(-E / T): log(pi T / (scale * sqrt(b))), shape ()."""
        return torch.tensor(math.log(math.pi * temperature / (self.scale * math.sqrt(self.b))))
