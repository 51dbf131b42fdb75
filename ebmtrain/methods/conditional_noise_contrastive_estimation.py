"""Conditional noise-contrastive estimation (Ceylan & Gutmann, ICML 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import softplus

from ebmtrain.types import Batch, Count, Energy, LossOutput, Positive, Tensors


@dataclass(frozen=True, kw_only=True)
class ConditionalNoiseContrastiveEstimation:
    """L = 2 * mean softplus(E(x_i) - E(y_ij)),  y_ij = x_i + sigma * xi_ij,  xi ~ N(0, I), j <= nu.

    Logistic regression between a datum and its noised copies. The noise is symmetric,
    p(y|x) = p(x|y), so log Z and the noise density cancel in
    G = log phi(x) p(y|x) - log phi(y) p(x|y), phi = exp(-E). Needs no chains. sigma -> 0 is score
    matching, insensitive to the weights of modes farther apart than sigma: choose sigma of the
    order of their distance.

    Args:
        sigma: standard deviation of the noise, in (standardized) units of x.
        nu: noised copies per datum.
    """

    sigma: Positive = 1.0
    nu: Count = 4

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return {}

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x = batch.x
        xi = x.new_empty(self.nu, *x.shape).normal_(generator=generator)
        values = energy(torch.cat([x, (x + self.sigma * xi).flatten(0, 1)]))
        data, noised = values[: len(x)], values[len(x) :].view(self.nu, -1)
        metrics = {
            "energy_data": data.detach().mean(),
            "energy_noised": noised.detach().mean(),
            "accuracy": (data < noised).to(x).mean(),
        }
        return LossOutput(2 * softplus(data - noised).mean(), metrics, state)
