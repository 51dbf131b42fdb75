"""A mixture of Gaussians as an energy, with known weights of the modes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebmtrain.types import NonNegative, Positive, check_mixture

_CENTRES = ((-2.5, 0.0), (2.5, 0.0), (0.0, 3.0))


class GaussianMixture(nn.Module):
    """E(x) = -log sum_k w_k N(x; c_k, std^2 I), so that log Z = 0.

    No parameters are trained. Well separated modes of different weights test whether a sampler or
    method finds the weights: local moves and score matching depend on the shape of each mode only.

    Args:
        centres: c_k, one list of coordinates for each mode.
        weights: w_k >= 0, divided by their sum; null: equal weights.
        std: > 0, of every mode along every axis, in units of x.

    Shapes: (batch, dim) -> (batch,), dim the length of a centre.

    Raises:
        ValueError: centres of unequal length, or a wrong number of weights.
    """

    centres: Tensor
    log_weights: Tensor

    def __init__(
        self,
        *,
        centres: Sequence[Sequence[float]] = _CENTRES,
        weights: Sequence[NonNegative] | None = (0.5, 0.3, 0.2),
        std: Positive = 0.5,
    ):
        super().__init__()
        check_mixture(centres, weights)
        weights = [1.0] * len(centres) if weights is None else list(weights)
        self.std = std
        points, w = torch.tensor([[float(x) for x in c] for c in centres]), torch.tensor(weights)
        self.event_shape = (points.shape[1],)
        low, high = points.amin(0) - 4 * std, points.amax(0) + 4 * std
        self.window = (tuple(low.tolist()), tuple(high.tolist()))
        self.register_buffer("centres", points)
        self.register_buffer("log_weights", (w / w.sum()).log())

    def forward(self, x: Tensor) -> Tensor:
        return -self.log_joint(x).logsumexp(1)

    def energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and dE/dx = (x - sum_k r_k(x) c_k) / std^2, r_k the posterior weights."""
        joint = self.log_joint(x)
        posterior_mean = joint.softmax(1) @ self.centres
        return -joint.logsumexp(1), (x - posterior_mean) / self.std**2

    def log_joint(self, x: Tensor) -> Tensor:
        """log w_k + log N(x; c_k, std^2 I), shape (batch, modes)."""
        squares = (x[:, None] - self.centres).square().sum(2)
        log_norm = x.shape[1] / 2 * math.log(2 * math.pi * self.std**2)
        return self.log_weights - squares / (2 * self.std**2) - log_norm

    def log_z(self, temperature: float) -> Tensor | None:
        """0 at T = 1, where exp(-E) is normalised; None: no closed form at other T."""
        return torch.zeros(()) if temperature == 1 else None
