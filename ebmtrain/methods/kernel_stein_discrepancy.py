"""Kernel Stein discrepancy as an objective.

Liu, Lee & Jordan and Chwialkowski, Strathmann & Gretton (both ICML 2016) for the U-statistic;
Gorham & Mackey (ICML 2017) for the inverse multiquadric kernel, with which a small discrepancy
means a near distribution. Minimised over models by Barp et al. (NeurIPS 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ebmtrain.score import score
from ebmtrain.types import Batch, Energy, LossOutput, Positive, Tensors


@dataclass(frozen=True, kw_only=True)
class KernelSteinDiscrepancy:
    """L = 1 / (n (n - 1)) * sum_{i != j} u(x_i, x_j),  s = -dE/dx,  k(x, y) = q^(-1/2),
    q = scale^2 + ||x - y||^2,

        u(x, y) = s(x)'s(y) k + s(x)' dk/dy + s(y)' dk/dx + tr d2k/dxdy
                = s(x)'s(y) q^(-1/2) + (s(x) - s(y))'(x - y) q^(-3/2)
                  + d q^(-3/2) - 3 ||x - y||^2 q^(-5/2).

    Its mean is E (s(x) - s_data(x))'(s(y) - s_data(y)) k(x, y) >= 0, and 0 where the model has the
    scores of the data; a batch's value may be negative. Only first derivatives of the energy, all
    pairs of a batch: n^2 memory. Blind to the weights of modes that are far apart, as the score is.

    Args:
        scale: of the kernel, in (standardized) units of x: over it differences of the two scores
            are averaged.
    """

    scale: Positive = 0.3

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return {}

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        s = score(energy, batch.x).flatten(1)
        x = batch.x.flatten(1)
        u = stein_kernel(x, s, x, s, self.scale)
        n = len(u)
        loss = (u.sum() - u.diagonal().sum()) / (n * (n - 1))
        metrics = {"score_norm": s.detach().square().sum(1).mean().sqrt()}
        return LossOutput(loss, metrics, state)


def stein_kernel(x: Tensor, s: Tensor, y: Tensor, t: Tensor, scale: float) -> Tensor:
    """u of all pairs, (n, m).

    Args:
        x, s: points and their scores, (n, d).
        y, t: likewise, (m, d).
        scale: of the kernel, in units of x.
    """
    square = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
    inverse = 1 / (scale**2 + square)
    # (s_i - t_j)'(x_i - y_j), without the (n, m, d) of all differences; about a point among them,
    # or its terms would cancel far from the origin.
    x, y = x - y[0].detach(), y - y[0].detach()
    along = (s * x).sum(1)[:, None] + (t * y).sum(1) - s @ y.T - x @ t.T
    k = inverse.sqrt()
    trace = k * inverse * (x.shape[1] - 3 * square * inverse)
    return s @ t.T * k + along * k * inverse + trace
