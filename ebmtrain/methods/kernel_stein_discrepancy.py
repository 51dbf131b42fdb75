"""Kernel Stein discrepancy as a training objective.

Liu, Lee & Jordan and Chwialkowski, Strathmann & Gretton (both ICML 2016) for the U-statistic;
Gorham & Mackey (ICML 2017) for the inverse multiquadric kernel, with which a small discrepancy
implies a close distribution. Minimised over models by Barp et al. (NeurIPS 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor

from ebmtrain.score import score, stein_kernel
from ebmtrain.types import Batch, Energy, LossOutput, Positive, Tensors


@dataclass(frozen=True, kw_only=True)
class KernelSteinDiscrepancy:
    """L = 1 / (n (n - 1)) * sum_{i != j} u(x_i, x_j),  s = -dE/dx,  k(x, y) = q^(-1/2),
    q = scale^2 + ||x - y||^2,

        u(x, y) = s(x)'s(y) k + s(x)' dk/dy + s(y)' dk/dx + tr d2k/dxdy
                = s(x)'s(y) q^(-1/2) + (s(x) - s(y))'(x - y) q^(-3/2)
                  + d q^(-3/2) - 3 ||x - y||^2 q^(-5/2).

    Its mean is E (s(x) - s_data(x))'(s(y) - s_data(y)) k(x, y) >= 0, with equality if the model has
    the scores of the data; the value of a batch may be negative. It needs first derivatives of the
    energy only, and memory of n^2 for all pairs of a batch. Like the score it is insensitive to the
    weights of well separated modes.

    Args:
        scale: > 0, of the kernel, in (standardized) units of x: the length over which differences
            of the scores are averaged.
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
