"""Contrast of data with a buffer of persistent chains: what several methods have in common."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor

from ebmtrain.methods.buffer import (
    BUFFER_SCHEMA,
    Negatives,
    init_buffer,
    sample_negatives,
    slot_conflicts,
)
from ebmtrain.methods.contrast import contrastive_loss
from ebmtrain.samplers.chain import adaptation_of
from ebmtrain.types import (
    Count,
    Energy,
    NonNegative,
    Positive,
    Probability,
    Sampler,
    StateSchema,
    Tensors,
    schema_of,
)


@dataclass(frozen=True, kw_only=True)
class PersistentChains:
    """Chains that persist from update to update: the arguments and the state of a method that has
    them. The method derives from it and defines `loss`.

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

    sampler: Sampler
    k: Count = 5
    slots: Count = 4096
    reinit: Probability = 0.0
    noise_std: Positive = 1.5
    energy_regularization: NonNegative = 0.01
    data_noise: NonNegative = 0.0

    conflicts = staticmethod(slot_conflicts)

    @property
    def state_schema(self) -> StateSchema:
        return BUFFER_SCHEMA | schema_of(adaptation_of(self.sampler))

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return init_buffer(self.sampler, self.slots, self.noise_std, x, generator)

    def contrast(
        self, energy: Energy, x: Tensor, state: Tensors, generator: Generator
    ) -> tuple[Tensor, Tensors, Negatives]:
        """The contrastive loss of a batch, (batch, *event), and the ends of as many chains after k
        steps; its metrics; these chains."""
        chains = sample_negatives(
            self.sampler, energy, state, generator,
            batch=len(x), k=self.k, reinit=self.reinit, noise_std=self.noise_std,
        )  # fmt: skip
        loss, metrics = contrastive_loss(energy, x, chains.x, self.energy_regularization)
        return loss, metrics, chains
