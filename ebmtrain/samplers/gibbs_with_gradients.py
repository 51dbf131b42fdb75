"""Gibbs with gradients (Grathwohl, Swersky, Hashemi, Duvenaud & Maddison, ICML 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.metropolis import accept_or_reject
from ebmtrain.score import energy_and_gradient
from ebmtrain.types import Count, Energy, Positive, Space, StepInfo


class GradientState(NamedTuple):
    x: Tensor
    """(batch, *event), states 0 and 1."""
    energy: Tensor
    """E(x), (batch,)."""
    gradient: Tensor
    """dE/dx, the shape of x."""


@dataclass(frozen=True, kw_only=True)
class GibbsWithGradients:
    """Flips one site i ~ q(i | x) = softmax_i(d_i / 2 T), d_i = (2 x_i - 1) dE/dx_i, and accepts
    with probability min(1, exp((E(x) - E(x')) / T) q(i | x') / q(i | x)).

    d_i is the first-order estimate of the energy that the flip of site i releases, by the gradient
    of the energy as a function of real x. Leaves exp(-E / T) invariant, however good the estimate.

    Args:
        proposals: flips that are proposed in a step; as many as there are sites are a sweep.
        temperature: T > 0. The target is exp(-E / T).
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"binary"})

    proposals: Count = 16
    temperature: Positive = 1.0

    def init(self, energy: Energy, x: Tensor) -> GradientState:
        return GradientState(x, *energy_and_gradient(energy, x))

    def step(
        self, energy: Energy, state: GradientState, generator: Generator
    ) -> tuple[GradientState, StepInfo]:
        rates = []
        for _ in range(self.proposals):
            state, rate = self._propose(energy, state, generator)
            rates.append(rate)
        return state, StepInfo(torch.stack(rates).mean(0))

    def _propose(
        self, energy: Energy, state: GradientState, generator: Generator
    ) -> tuple[GradientState, Tensor]:
        log_q = self._log_proposal(state)
        uniform = torch.empty_like(log_q).uniform_(generator=generator)
        site = (log_q - (-uniform.log()).log()).argmax(1, keepdim=True)  # Gumbel: i ~ q
        flat = state.x.flatten(1)
        flipped = flat.scatter(1, site, 1 - flat.gather(1, site)).view(state.x.shape)
        new = GradientState(flipped, *energy_and_gradient(energy, flipped))
        log_back = self._log_proposal(new).gather(1, site).squeeze(1)
        log_ratio = (state.energy - new.energy) / self.temperature
        log_ratio = log_ratio + log_back - log_q.gather(1, site).squeeze(1)
        return accept_or_reject(log_ratio, new, state, generator)

    def _log_proposal(self, state: GradientState) -> Tensor:
        """log q(i | x), (batch, sites)."""
        estimate = (2 * state.x - 1) * state.gradient
        return torch.log_softmax(estimate.flatten(1) / (2 * self.temperature), 1)
