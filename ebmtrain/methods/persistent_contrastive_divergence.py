"""Persistent contrastive divergence (Tieleman, ICML 2008), with a buffer of chain slots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from ebmtrain.methods.contrast import contrast, gaussian_like, noised
from ebmtrain.samplers.bounds import per_chain
from ebmtrain.samplers.chain import run_chain, start_learning
from ebmtrain.types import (
    Batch,
    Count,
    Energy,
    LossOutput,
    NonNegative,
    Positive,
    Probability,
    Sampler,
    Tensors,
)


@dataclass(frozen=True, kw_only=True)
class PersistentContrastiveDivergence:
    """Chains live on from step to step; L = mean E(x) - mean E(chain ends).

    A buffer holds `slots` chains. A step draws a batch of *distinct* slots, restarts each with
    probability `reinit` from N(0, noise_std^2 I), runs k steps and writes the ends back in place.
    (A queue of past samples is something else: its points are not states of a chain.) Slots hold
    positions only: an energy cached across a parameter update would be wrong.

    Args:
        sampler: what moves the chains.
        k: steps of each drawn chain per training step.
        slots: chains in the buffer, at least the batch.
        reinit: probability of a restart per drawn chain (0.05 in JEM: Grathwohl et al., 2020).
        noise_std: of the first and of every restarted point, in (standardized) units of x.
        energy_regularization: alpha of `contrast`; small, it biases the density.
        data_noise: standard deviation of Gaussian noise added to each batch, in (standardized)
            units of x.

    State: `chains` (slots, *event); `ages` (slots,), steps since the slot's last restart; what the
    sampler's adaptation learnt.
    """

    sampler: Sampler
    k: Count = 10
    slots: Count = 4096
    reinit: Probability = 0.0
    noise_std: Positive = 1.0
    energy_regularization: NonNegative = 0.0
    data_noise: NonNegative = 0.0

    @staticmethod
    def conflicts(config: Mapping[str, Any]) -> list[str]:
        slots, batch = config["method"].get("slots"), config["train"]["batch_size"]
        if slots is None or slots >= batch:
            return []
        return [
            f"method.slots is {slots}, fewer than train.batch_size={batch}: raise method.slots or "
            "lower the batch"
        ]

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        like = x.new_empty(self.slots, *x.shape[1:])
        return {
            "chains": gaussian_like(like, self.noise_std, generator),
            "ages": torch.zeros(self.slots, dtype=torch.int64, device=x.device),
        } | start_learning(self.sampler, x)

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x = noised(batch.x, self.data_noise, generator)
        if len(x) > self.slots:
            raise ValueError(
                f"a batch of {len(x)} cannot be drawn from {self.slots} chain slots: "
                f"raise method.slots to at least {len(x)} or lower train.batch_size"
            )
        chains, ages, learnt = state["chains"], state["ages"], dict(state)
        del learnt["chains"], learnt["ages"]

        drawn = torch.randperm(self.slots, generator=generator, device=x.device)[: len(x)]
        first, age = chains[drawn], ages[drawn]
        if self.reinit:
            uniform = torch.empty(len(x), device=x.device).uniform_(generator=generator)
            restart = uniform < self.reinit
            fresh = gaussian_like(first, self.noise_std, generator)
            first = torch.where(per_chain(restart, first), fresh, first)
            age = age.masked_fill(restart, 0)
        chain = run_chain(self.sampler, energy, first, self.k, generator, learnt)
        state = {
            "chains": chains.index_copy(0, drawn, chain.x),
            "ages": ages.index_copy(0, drawn, age + self.k),
        } | chain.learnt
        loss, energies = contrast(energy, x, chain.x, self.energy_regularization)
        return LossOutput(loss, energies | chain.metrics, state)
