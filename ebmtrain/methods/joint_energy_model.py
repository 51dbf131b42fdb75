"""Joint energy model, a classifier and a density in one network (JEM; Grathwohl et al., ICLR
2020)."""

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
    """L = mean E(x) - mean E(x-) + w * mean -log softmax_y(-E(x, y)),  E(x) = -log sum_y exp(-E(x,
    y)).

    The two terms estimate -log p(x) and -log p(y | x): persistent contrastive divergence for the
    density, with x- the ends of persistent chains, and cross entropy for the classes. At
    temperature 1 and w = 1 their sum is -log p(x, y) of one density.

    Args:
        sampler: kernel of the chains.
        k: steps of each selected chain per update.
        slots: chains in the buffer, at least the batch size.
        reinit: probability of a restart per selected chain (0.05 in the paper).
        noise_std: standard deviation of the first and of restarted points, in (standardized) units
            of x.
        classification: w (1 in the paper).
        energy_regularization: alpha of `contrastive_loss`. It biases the density; keep it small.
        data_noise: standard deviation of Gaussian noise added to each batch, in (standardized)
            units of x.

    State: as for persistent contrastive divergence. Additional metrics, of the batch: cross_entropy
    in nats, accuracy_train.
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
        nll = cross_entropy(logits, batch.y)
        accuracy = (logits.argmax(1) == batch.y).to(logits).mean()
        metrics |= {"cross_entropy": nll.detach(), "accuracy_train": accuracy}
        return LossOutput(loss + self.classification * nll, metrics | chain.metrics, chain.state)
