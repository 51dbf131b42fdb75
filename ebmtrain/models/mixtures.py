"""Mixtures of probabilistic principal component analysers, and products of such mixtures."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn

from ebmtrain.types import Count, Positive, SmallCount


class Mixtures(nn.Module):
    """E(x) = 1/M sum_m -log sum_k w_mk N(x; c_mk, C_mk),  C_mk = s_mk^2 I + V_mk V_mk'.

    Each of the M mixtures is a density, a mixture of probabilistic principal component analysers
    (Tipping & Bishop, Neural Computation 11, 1999): a component follows locally flat data in `rank`
    directions. exp(-E) is the geometric mean of the mixtures (Hinton, Neural Computation 14, 2002),
    whose errors differ because they are initialised at different points. log Z is 0 for M = 1; for
    more mixtures it is unknown, and at most 0.

    The density of a component uses Woodbury's identity: with R R' = I + V'V / s^2 and
    z = R^-1 V'(x - c), (x - c)' C^-1 (x - c) = ||x - c||^2 / s^2 - ||z||^2 / s^4.

    Args:
        event_shape: shape of one point; its d elements are the coordinates.
        mixtures: M.
        components: number of components per mixture.
        rank: columns of V, at most d.
        std: > 0, initial s, in units of x.
        training_points: (n, *event_shape). The initial centres are random training points, drawn
            separately for each mixture; None: N(0, I), for weights that are loaded afterwards.

    Shapes: (batch, *event_shape) -> (batch,). M components (d (rank + 1) + 2) parameters.

    Raises:
        ValueError: rank > d.
    """

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        mixtures: SmallCount = 1,
        components: Annotated[int, Gt(0), Le(100_000)] = 50,
        rank: Count = 2,
        std: Positive = 0.5,
        training_points: Tensor | None = None,
    ):
        super().__init__()
        d, count = math.prod(event_shape), mixtures * components
        if rank > d:
            raise ValueError(
                f"model.rank={rank} must be at most {d}, the coordinates of a point: lower it"
            )
        self.mixtures = mixtures
        self.centres = nn.Parameter(_initial_centres(training_points, mixtures, components, d))
        self.log_std = nn.Parameter(torch.full((count,), math.log(std)))
        self.directions = nn.Parameter(torch.randn(count, d, rank) * 0.1 * std)
        self.logits = nn.Parameter(torch.zeros(mixtures, components))

    def forward(self, x: Tensor) -> Tensor:
        return -self.log_joint(x).logsumexp(2).mean(1)

    def energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and dE/dx = 1/M sum_mk r_mk(x) C_mk^-1 (x - c_mk), r_mk the posterior weights."""
        flat, precision = x.flatten(1), (-2 * self.log_std).exp()
        log_joint, z, loadings = self._evaluate(flat)
        weights = log_joint.softmax(2).flatten(1) / self.mixtures * precision
        low_rank = (weights * precision)[:, :, None] * z
        gradient = weights.sum(1, keepdim=True) * flat - weights @ self.centres
        gradient = gradient - low_rank.flatten(1) @ loadings.flatten(0, 1)
        return -log_joint.logsumexp(2).mean(1), gradient.view_as(x)

    def log_joint(self, x: Tensor) -> Tensor:
        """log w_mk + log N(x; c_mk, C_mk), (batch, mixtures, components)."""
        return self._evaluate(x.flatten(1))[0]

    def _evaluate(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`log_joint` of flat points, z of each point and component, (batch, count, rank), and
        R^-1 V', (count, rank, d)."""
        v, c, precision = self.directions, self.centres, (-2 * self.log_std).exp()
        eye = torch.eye(v.shape[2], dtype=v.dtype, device=v.device)
        root = torch.linalg.cholesky_ex(eye + precision[:, None, None] * (v.mT @ v)).L
        loadings = torch.linalg.solve_triangular(root, v.mT, upper=False)
        z = (x @ loadings.flatten(0, 1).T).unflatten(1, loadings.shape[:2])
        z = z - (loadings @ c[:, :, None])[:, :, 0]
        squares = x.square().sum(1, keepdim=True) - 2 * x @ c.T + c.square().sum(1)
        form = precision * squares - precision.square() * z.square().sum(2)
        half_log_det = root.diagonal(dim1=1, dim2=2).log().sum(1) + x.shape[1] * self.log_std
        log_norm = half_log_det + x.shape[1] / 2 * math.log(2 * math.pi)
        log_p = (-form / 2 - log_norm).unflatten(1, self.logits.shape)
        return self.logits.log_softmax(1) + log_p, z, loadings

    def log_z(self, temperature: float) -> Tensor | None:
        """0 for a single mixture at T = 1, which is normalised; None: no closed form."""
        known = temperature == 1 and self.mixtures == 1
        return self.log_std.new_zeros(()) if known else None


def _initial_centres(points: Tensor | None, mixtures: int, components: int, d: int) -> Tensor:
    """Initial centres, (mixtures * components, d), sampled without replacement within each mixture
    as long as there are points."""
    if points is None:
        return torch.randn(mixtures * components, d)
    n = len(points)
    rounds = -(-components // n)
    chosen = [torch.cat([torch.randperm(n) for _ in range(rounds)])[:components]
              for _ in range(mixtures)]  # fmt: skip
    return points.flatten(1)[torch.cat(chosen)].to(torch.get_default_dtype())
