"""Sliced score matching (Song, Garg, Shi & Ermon, UAI 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ebmtrain.methods.score_matching import require_second_derivative
from ebmtrain.score import quadratic_loss, score_and_products
from ebmtrain.types import Affine, Batch, Count, Energy, LossDerivatives, LossOutput, Tensors


@dataclass(frozen=True, kw_only=True)
class SlicedScoreMatching:
    """L = mean [ (v's)^2 / 2 + v'(ds/dx)v ], or with `variance_reduced`
    L = mean [ ||s||^2 / 2 + v'(ds/dx)v ], over `n_projections` directions v ~ N(0, I) per point.

    Both have the minimum of score matching because E[vv'] = I. (v on the unit sphere has
    E[vv'] = I / d and, in the second form, another minimum.) Like all score matching it is
    insensitive to the weights of well separated modes.

    Args:
        n_projections: directions per point and update.
        variance_reduced: use the second form, whose first term is exact.
    """

    n_projections: Count = 1
    variance_reduced: bool = True

    conflicts = staticmethod(require_second_derivative)

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return {}

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x = batch.x
        v = x.new_empty(self.n_projections, *x.shape).normal_(generator=generator)

        def loss(gradient: Tensor, curvatures: Tensor) -> tuple[Tensor, Tensors]:
            squared_norm = gradient.flatten(1).square().sum(1)
            along = squared_norm
            if not self.variance_reduced:
                along = (gradient * v).flatten(2).sum(2).square()
            metrics = {
                "score_norm": squared_norm.detach().mean().sqrt(),
                "divergence": -curvatures.detach().mean(),
            }
            return (along / 2 - curvatures).mean(), metrics

        if not self.variance_reduced:  # v's is not elementwise in s
            s, products = score_and_products(energy, x, v)
            return LossOutput(*loss(-s, -products), state)
        derivatives = LossDerivatives(
            gradient=Affine(torch.zeros_like(x), torch.full_like(x, 1 / len(x))),
            curvature=Affine(x.new_full(v.shape[:2], -1 / (len(v) * len(x)))),
            directions=v,
        )
        return LossOutput(*quadratic_loss(energy, x, loss, derivatives), state)
