"""Energy discrepancy (Schroeder, Ou, Lim, Li, Vollmer & Duncan, NeurIPS 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.support import REAL
from ebmtrain.types import (
    Batch,
    Count,
    Energy,
    LossOutput,
    NonNegative,
    Positive,
    Space,
    Support,
    Tensors,
)


@dataclass(frozen=True, kw_only=True)
class EnergyDiscrepancy:
    """L = mean_i log( w / M + 1/M sum_j exp[ E(x_i) - E(x_i + sqrt(t) a_i + sqrt(t) b_ij) ] ),
    a_i, b_ij ~ N(0, I). Needs no chains and no gradient in x.

    For w = 0 and M -> infinity it is mean E(x) - mean E_t(y), where y = x + sqrt(t) a is the noised
    datum and exp(-E_t) is exp(-E) convolved with N(0, t I): the difference of the information that
    the same noise removes from the data and from the model. Its minimum is the data density for
    every t > 0. t -> 0 is score matching, which is insensitive to the weights of well separated
    modes; a large t is maximum likelihood with a noisy estimate of log Z.

    w = 1 (with M = 4, as in the paper) has this minimum for every M, not only for M -> infinity.
    Given y, the datum is a sample of p(x) N(x; y, t I) up to a factor, and the others x_j are
    samples of N(y, t I). The loss is, up to a constant, -log of

        exp(-E(x)) / (exp(-E(x)) + sum_j exp(-E(x_j))),

    the model's probability that the datum is the datum, which is correct if exp(-E) is the density:
    ranking noise-contrastive estimation (Ma & Collins, EMNLP 2018). Other w have a bias that only a
    large M removes.

    States have another noise of time t: each element is replaced by a uniform one with probability
    1 - exp(-t) (Schroeder, Ou, Li & Duncan, "Energy-based modelling for discrete and mixed data via
    heat equations on structured spaces", 2024). It is symmetric too, and all of this holds.

    Args:
        t: variance of each of the two perturbations, in squared (standardized) units of x; of
            states, their time.
        m: M, perturbed points per datum.
        w: >= 0, weight of the datum's own term; 1: no bias.
        support: of the points; the builder passes it.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"real", "binary"})

    t: Positive = 0.3
    m: Count = 4
    w: NonNegative = 1.0
    support: Support = REAL

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return {}

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x = batch.x
        y = self.support.diffuse(x, self.t, generator)
        perturbed = self.support.diffuse(y.expand(self.m, *y.shape), self.t, generator)
        values = energy(torch.cat([x, perturbed.flatten(0, 1)]))
        data, others = values[: len(x)], values[len(x) :].view(self.m, -1)
        terms = data - others
        if self.w:
            terms = torch.cat([terms, torch.full_like(terms[:1], math.log(self.w))])
        loss = terms.logsumexp(0).mean() - math.log(self.m)
        metrics = {
            "energy_data": data.detach().mean(),
            "energy_perturbed": others.detach().mean(),
        }
        return LossOutput(loss, metrics, state)
