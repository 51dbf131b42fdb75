"""Persistent contrastive divergence (Tieleman, ICML 2008), with a buffer of chain slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from ebmtrain.methods.buffer import init_buffer, sample_negatives, slot_conflicts
from ebmtrain.methods.contrast import contrast, noised
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

    State: `chains` (slots, *event); `ages` (slots,), steps since the slot's last restart;
    `restarts` () so far; what the sampler's adaptation learnt.
    """

    ragged: ClassVar[bool] = True

    sampler: Sampler
    k: Count = 10
    slots: Count = 4096
    reinit: Probability = 0.0
    noise_std: Positive = 1.0
    energy_regularization: NonNegative = 0.0
    data_noise: NonNegative = 0.0

    conflicts = staticmethod(slot_conflicts)

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return init_buffer(self.sampler, self.slots, self.noise_std, x, generator)

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x = noised(batch.x, self.data_noise, generator)
        chain = sample_negatives(
            self.sampler, energy, state, generator,
            batch=len(x), k=self.k, reinit=self.reinit, noise_std=self.noise_std,
        )  # fmt: skip
        loss, energies = contrast(energy, x, chain.x, self.energy_regularization)
        return LossOutput(loss, energies | chain.metrics, chain.state)
