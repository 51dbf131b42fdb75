"""Persistent contrastive divergence (Tieleman, ICML 2008), with a buffer of chain slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from ebmtrain.methods.buffer import slot_conflicts
from ebmtrain.methods.contrast import add_noise
from ebmtrain.methods.persistent_chains import chain_schema, contrast_with_chains, initial_chains
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
class PersistentContrastiveDivergence:
    """L = mean E(x) - mean E(x-), x- the ends of chains that persist from update to update.

    A buffer holds `slots` chains. An update selects *distinct* slots, as many as the batch has
    points, restarts each with probability `reinit` from N(0, noise_std^2 I), runs k steps and
    writes the ends back. (A replay queue of past samples differs: its points are not states of a
    chain.) Slots hold positions only, because an energy stored before a parameter update would be
    wrong.

    Args:
        sampler: kernel of the chains.
        k: steps of each selected chain per update.
        slots: chains in the buffer, at least the batch size.
        reinit: probability of a restart per selected chain (0.05 in JEM: Grathwohl et al., 2020).
        noise_std: standard deviation of the first and of restarted points, in (standardized) units
            of x.
        energy_regularization: alpha of `contrastive_loss`. It biases the density; keep it small.
        data_noise: standard deviation of Gaussian noise added to each batch, in (standardized)
            units of x.

    State: `chains` (slots, *event); `ages` (slots,), steps since the slot's last restart;
    `restarts` (), restarts so far; the state of the sampler's adaptation.
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
        return LossOutput(loss, energies | chain.metrics, chain.state)
