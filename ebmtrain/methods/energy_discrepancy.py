"""Energy discrepancy (Schroeder, Ou, Lim, Li, Vollmer & Duncan, NeurIPS 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ebmtrain.types import Batch, Count, Energy, LossOutput, NonNegative, Positive, Tensors


@dataclass(frozen=True, kw_only=True)
class EnergyDiscrepancy:
    """L = mean_i log( w / M + 1/M sum_j exp[ E(x_i) - E(x_i + sqrt(t) a_i + sqrt(t) b_ij) ] ),
    a_i, b_ij ~ N(0, I). Draws no chains and needs no gradient in x.

    For w = 0 and M to infinity it is mean E(x) - mean E_t(y), where y = x + sqrt(t) a is the
    noised datum and exp(-E_t) is exp(-E) convolved with N(0, t I): the loss of information about
    the data, compared with that about the model, under one and the same noise. Its minimum is the
    data's density for every t > 0. t to 0 is score matching, which is blind to the weights of
    modes far apart; a large t is maximum likelihood with a noisy estimate of log Z.

    A finite M leaves a bias of the order of Var(exp(E - E')) / M; w > 0 bounds the logarithm from
    below and with it the variance (the paper takes w = 1, M = 4).

    Args:
        t: variance of each of the two perturbations, in squared (standardized) units of x.
        m: M, perturbed points for each datum.
        w: weight of the stabilisation.
    """

    t: Positive = 0.3
    m: Count = 4
    w: NonNegative = 1.0

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return {}

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x, std = batch.x, math.sqrt(self.t)
        a = torch.empty_like(x).normal_(generator=generator)
        b = x.new_empty(self.m, *x.shape).normal_(generator=generator)
        perturbed = x + std * a + std * b  # (M, batch, *event)
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
