"""Finite-difference sliced score matching.

Pang, Xu, Li, Song, Ermon & Zhu, "Efficient learning of generative models via finite-difference
score matching", NeurIPS 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ebmtrain.types import Batch, Energy, LossOutput, Positive, Tensors


@dataclass(frozen=True, kw_only=True)
class FiniteDifferenceScoreMatching:
    """L = mean [ (E+ - E-)^2 / (8 eps^2) - (E+ + E- - 2 E) / eps^2 ],
    E+- = E(x +- eps v),  E = E(x),  v ~ N(0, I).

    Sliced score matching, (v's)^2 / 2 + v'(ds/dx)v with s = -dE/dx, by central differences along v:
    v's is -(E+ - E-) / (2 eps) and v'(ds/dx)v is -(E+ + E- - 2 E) / eps^2, each with an error of
    order eps^2, which is zero for a quadratic E. (In the paper v has length eps, and the loss is a
    multiple of this one.) There is no derivative in x: an update evaluates three energies in one
    pass, and the energy needs to be smooth only on the scale eps. Like all score matching it is
    insensitive to the weights of well separated modes.

    Args:
        eps: > 0, length of a difference per unit of v, in (standardized) units of x. The rounding
            error of float32 energies is of the order of 1e-7 |E| / eps^2.
    """

    eps: Positive = 0.05

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return {}

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x = batch.x
        shift = self.eps * torch.empty_like(x).normal_(generator=generator)
        ahead, behind, here = energy(torch.cat([x + shift, x - shift, x])).chunk(3)
        slope = (ahead - behind) / (2 * self.eps)
        divergence = -(ahead + behind - 2 * here) / self.eps**2
        metrics = {
            "slope": slope.detach().square().mean().sqrt(),
            "divergence": divergence.detach().mean(),
        }
        return LossOutput((slope.square() / 2 + divergence).mean(), metrics, state)
