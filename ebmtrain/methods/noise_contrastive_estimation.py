"""Noise-contrastive estimation (Gutmann & Hyvarinen, JMLR 13, 2012)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import softplus

from ebmtrain.methods.noise import NOISE_DISTRIBUTIONS
from ebmtrain.types import (
    Batch,
    Count,
    Energy,
    LossOutput,
    Positive,
    Space,
    StateSchema,
    Tensors,
    replicated,
)


@dataclass(frozen=True, kw_only=True)
class NoiseContrastiveEstimation:
    """Logistic regression between data x and nu times as many samples y of a noise density p_n:

    L = mean softplus(-G(x)) + nu * mean softplus(G(y)),
    G(u) = -E(u) - log Z - log(nu p_n(u)).

    log Z is a parameter like those of E. At the minimum exp(-E) / Z is the data density, normalised
    without an integral. The variance falls with nu, and the closer p_n is to the data. Needs no
    chains. The noise is fitted once, to all training points.

    Args:
        noise: gaussian (full covariance), uniform (on the bounding box) or kernel (a kernel
            density estimate); of binary states frequencies (independent states with those of the
            training points); see `noise`.
        nu: noise samples per datum.
        width: > 0, factor on the fitted standard deviations, sides or bandwidth.

    State: `log_z_learnt` (), trained, of standardized coordinates; the parameters of the noise.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"real", "binary"})

    noise: Literal["gaussian", "uniform", "kernel", "frequencies"] = "gaussian"
    nu: Count = 4
    width: Positive = 1.0

    @property
    def state_schema(self) -> StateSchema:
        return replicated("log_z_learnt") | NOISE_DISTRIBUTIONS[self.noise].state_schema

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        log_z = x.new_zeros(()).requires_grad_()
        return {"log_z_learnt": log_z} | NOISE_DISTRIBUTIONS[self.noise].fit(
            x.flatten(1), self.width, generator
        )

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        noise, x = NOISE_DISTRIBUTIONS[self.noise], batch.x
        y = noise.sample(state, self.nu * len(x), generator)
        points = torch.cat([x.flatten(1), y])
        log_noise = noise.log_prob(state, points) + math.log(self.nu)
        values = energy(points.view(-1, *x.shape[1:]))
        data, other = (-values - state["log_z_learnt"] - log_noise).split([len(x), len(y)])
        loss = softplus(-data).mean() + self.nu * softplus(other).mean()
        metrics = {
            "energy_data": values[: len(x)].detach().mean(),
            "energy_noise": values[len(x) :].detach().mean(),
            # Mean over the two classes: 1/2 means that they are not separated.
            "accuracy": ((data > 0).to(loss).mean() + (other < 0).to(loss).mean()).detach() / 2,
        }
        return LossOutput(loss, metrics, state)
