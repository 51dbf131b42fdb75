"""An energy of one parameter, for which every objective is a polynomial, and small helpers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from repeats import seeded
from torch import Tensor, nn

from ebmtrain.types import Batch, Method


class Quadratic(nn.Module):
    """E(x) = a ||x||^2 / 2 + c, for events of any shape."""

    def __init__(self, a: float = 1.0, c: float = 0.0):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(float(a), dtype=torch.float64))
        self.c = c

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x.flatten(1).square().sum(1) / 2 + self.c


def loss_and_slope(method: Method, a: float, x: Tensor, seed: int = 0) -> tuple[float, float]:
    """L and dL/da on one batch."""
    energy, generator = Quadratic(a), seeded(seed)
    out = method.loss(energy, Batch(x), method.init(x, generator), generator)
    (slope,) = torch.autograd.grad(out.loss, energy.a)
    return out.loss.item(), slope.item()


def minimisers(method: Method, draw: Callable[[int], Tensor], n: int = 60) -> Tensor:
    """argmin_a L of each of n batches, for an L that is a parabola in a: where its slope, drawn
    with the same noise at a = 0 and a = 1, is zero."""
    found = []
    for i in range(n):
        x = draw(i)
        at_0, at_1 = (loss_and_slope(method, a, x, seed=i)[1] for a in (0.0, 1.0))
        found.append(at_0 / (at_0 - at_1))
    return torch.tensor(found, dtype=torch.float64)
