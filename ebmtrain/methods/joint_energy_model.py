"""JEM: a classifier that is an energy too (Grathwohl et al., ICLR 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from ebmtrain.methods.buffer import slot_conflicts
from ebmtrain.methods.contrast import add_noise
from ebmtrain.methods.persistent_chains import chain_schema, contrast_with_chains, initial_chains
from ebmtrain.types import (
    Batch,
    Count,
    Energy,
    Joint,
    LossOutput,
    NonNegative,
    Positive,
    Probability,
    Sampler,
    StateSchema,
    Tensors,
)


@dataclass(frozen=True, kw_only=True)
class JointEnergyModel:
    """-log p(x, y) = -log p(x) - log p(y | x), each by its own estimate:

    L = mean E(x) - mean E(chain ends) + w * mean -log softmax_y(-E(x, y)),

    with E(x) = -log sum_y exp(-E(x, y)): persistent contrastive divergence for the density, cross
    entropy for the classes. At the temperature 1 the two are those of one density p(x, y).

    Args:
        sampler: what moves the chains.
        k: steps of each drawn chain per training step.
        slots: chains in the buffer, at least the batch.
        reinit: probability of a restart per drawn chain (0.05 in the paper).
        noise_std: of the first and of every restarted point, in (standardized) units of x.
        classification: w (1 in the paper).
        energy_regularization: alpha of `contrast`; small, it biases the density.
        data_noise: standard deviation of Gaussian noise added to each batch, in (standardized)
            units of x.

    State: as of persistent contrastive divergence. Metrics besides: cross_entropy, in nats, and
    accuracy_train, of the batch.
    """

    needs_labels: ClassVar[bool] = True
    sampler: Sampler
    k: Count = 10
    slots: Count = 4096
    reinit: Probability = 0.0
    noise_std: Positive = 1.0
    classification: NonNegative = 1.0
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
        if batch.y is None:
            raise ValueError("a batch without labels: method=pcd, or data with labels")
        x = add_noise(batch.x, self.data_noise, generator)
        loss, metrics, chain = contrast_with_chains(self, energy, x, state, generator)
        logits = -cast(Joint, energy).joint(x)  # the builder refuses any other energy
        surprise = cross_entropy(logits, batch.y)
        right = (logits.argmax(1) == batch.y).to(logits).mean()
        metrics |= {"cross_entropy": surprise.detach(), "accuracy_train": right}
        return LossOutput(
            loss + self.classification * surprise, metrics | chain.metrics, chain.state
        )
