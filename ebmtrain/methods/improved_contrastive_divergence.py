"""Improved contrastive divergence (Du, Li, Tenenbaum & Mordatch, ICML 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ebmtrain.methods.contrast import add_noise
from ebmtrain.methods.persistent_chains import PersistentChains
from ebmtrain.samplers.chain import temperature_of
from ebmtrain.score import freeze, score
from ebmtrain.types import Batch, Energy, LossOutput, NonNegative, Positive, Tensors


@dataclass(frozen=True, kw_only=True)
class ImprovedContrastiveDivergence(PersistentChains):
    """L = mean E(x) - mean E(x-) + w * mean E_frozen(y) - w' T * H(y),
    y = x- - eta * dE(x-) + sqrt(2 eta T) * xi.

    x- are the ends of persistent chains. The density q of chains of finite length also depends on
    the parameters, which contrastive divergence neglects. The added terms are T KL(q || p) =
    E_q[E] - T H(q) + T log Z as a function of q alone; they draw the chains towards the model. y is
    one more Langevin step after x-. E_frozen takes no parameter gradient, so the gradient of both
    terms passes only through the drift of y. The entropy H(y) is estimated from nearest neighbours
    (see `_nearest_neighbour_entropy`).

    The paper differentiates through the last step of the chain itself. The additional step here
    allows any sampler for the chain, exact ones included. The paper's entropy lacks the factor d
    and constants.

    Args, besides those of `PersistentChains`, as is the state:
        step_size: eta of the step that the gradient passes through, in squared units of x per unit
            of energy.
        kl_weight: w.
        entropy_weight: w'.
    """

    step_size: Positive = 0.01
    kl_weight: NonNegative = 1.0
    entropy_weight: NonNegative = 1.0

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x = add_noise(batch.x, self.data_noise, generator)
        loss, energies, chain, after = self.contrast(energy, x, state, generator)

        temperature = temperature_of(self.sampler)
        noise = torch.empty_like(chain.x).normal_(generator=generator)
        drift = self.step_size * score(energy, chain.x)
        y = chain.x + drift + (2 * self.step_size * temperature) ** 0.5 * noise
        with freeze(energy):  # the parameter gradient passes through y alone
            energy_y = energy(y).mean()
        entropy = _nearest_neighbour_entropy(y)
        loss = loss + self.kl_weight * energy_y - self.entropy_weight * temperature * entropy
        metrics = energies | chain.metrics | {"entropy_model": entropy.detach()}
        return LossOutput(loss, metrics, after)


def _nearest_neighbour_entropy(y: Tensor) -> Tensor:
    """H = d mean log r_i + log(n - 1) + log V_d + Euler's constant, in nats, (n, *event) -> ().

    r_i is the distance from y_i to its nearest neighbour, V_d the volume of the unit ball in d
    dimensions (Kozachenko & Leonenko, Problems of Information Transmission 23, 1987).
    Differentiable in y.
    """
    flat = y.flatten(1)
    n, d = flat.shape
    with torch.no_grad():
        distance = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distance.fill_diagonal_(torch.inf).argmin(1)
    # Two equal points have distance 0, without logarithm and gradient.
    square = (flat - flat[nearest]).square().sum(1).clamp(min=torch.finfo(y.dtype).tiny)
    log_ball = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)
    return d / 2 * square.log().mean() + math.log(n - 1) + log_ball + _EULER


_EULER = 0.5772156649015329
