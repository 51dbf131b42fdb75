"""Improved contrastive divergence (Du, Li, Tenenbaum & Mordatch, ICML 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ebmtrain.methods.buffer import slot_conflicts
from ebmtrain.methods.contrast import add_noise
from ebmtrain.methods.persistent_chains import chain_schema, contrast_with_chains, initial_chains
from ebmtrain.samplers.chain import temperature_of
from ebmtrain.score import freeze, score
from ebmtrain.types import (
    Batch,
    Count,
    Energy,
    LossOutput,
    NonNegative,
    Positive,
    Probability,
    Sampler,
    StateSchema,
    Tensors,
)


@dataclass(frozen=True, kw_only=True)
class ImprovedContrastiveDivergence:
    """L = mean E(x) - mean E(x-) + w * mean E_frozen(y) - w' T * H(y),
    y = x- - eta * dE(x-) + sqrt(2 eta T) * xi.

    x- are the ends of persistent chains. The density q of chains of finite length depends on the
    parameters too, which contrastive divergence passes by. What is added is T KL(q || p) =
    E_q[E] - T H(q) + T log Z as a function of q alone, which draws the chains towards the model,
    for one Langevin step y more: with the energy that judges y frozen, the parameters see the first
    new term through the drift of y alone, and so does the entropy H(y), which is estimated from
    nearest neighbours (see `nearest_neighbour_entropy`).

    The paper takes the gradient through the last step of the chain itself; a step of its own leaves
    the chain to any sampler, exact ones included. Its entropy lacks the factor d and constants.

    Args:
        sampler: what moves the chains.
        k: steps of each drawn chain per training step.
        slots: chains in the buffer, at least the batch.
        reinit: probability of a restart per drawn chain.
        noise_std: of the first and of every restarted point, in (standardized) units of x.
        step_size: eta of the step that the gradient passes through, in squared units of x per unit
            of energy.
        kl_weight: w.
        entropy_weight: w'.
        energy_regularization: alpha of `contrast`; small, it biases the density.
        data_noise: standard deviation of Gaussian noise added to each batch, in (standardized)
            units of x.

    State: as of persistent contrastive divergence.
    """

    sampler: Sampler
    k: Count = 5
    slots: Count = 4096
    reinit: Probability = 0.0
    noise_std: Positive = 1.0
    step_size: Positive = 0.01
    kl_weight: NonNegative = 1.0
    entropy_weight: NonNegative = 1.0
    energy_regularization: NonNegative = 0.0
    data_noise: NonNegative = 0.0

    conflicts = staticmethod(slot_conflicts)

    @property
    def state_schema(self) -> StateSchema:
        return chain_schema(self)

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return initial_chains(self, x, generator)

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x = add_noise(batch.x, self.data_noise, generator)
        loss, energies, chain = contrast_with_chains(self, energy, x, state, generator)

        temperature = temperature_of(self.sampler)
        noise = torch.empty_like(chain.x).normal_(generator=generator)
        drift = self.step_size * score(energy, chain.x)
        y = chain.x + drift + (2 * self.step_size * temperature) ** 0.5 * noise
        with freeze(energy):  # the gradient goes to the parameters by way of y alone
            judged = energy(y).mean()
        spread = nearest_neighbour_entropy(y)
        loss = loss + self.kl_weight * judged - self.entropy_weight * temperature * spread
        metrics = energies | chain.metrics | {"entropy_model": spread.detach()}
        return LossOutput(loss, metrics, chain.state)


def nearest_neighbour_entropy(y: Tensor) -> Tensor:
    """H = d mean log r_i + log(n - 1) + log V_d + Euler's constant, in nats, with r_i the distance
    from y_i to its nearest neighbour and V_d the volume of the unit ball (Kozachenko & Leonenko,
    1987). Differentiable; (n, *event) -> ()."""
    flat = y.flatten(1)
    n, d = flat.shape
    with torch.no_grad():
        distance = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distance.fill_diagonal_(torch.inf).argmin(1)
    # Twice the same point has no logarithm and no gradient.
    square = (flat - flat[nearest]).square().sum(1).clamp(min=torch.finfo(y.dtype).tiny)
    log_ball = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)
    return d / 2 * square.log().mean() + math.log(n - 1) + log_ball + _EULER


_EULER = 0.5772156649015329
