"""Contrastive divergence (Hinton, Neural Computation 14(8), 2002)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, Tensor

from ebmtrain.datasets.support import REAL
from ebmtrain.methods.contrast import add_noise, contrastive_loss, regularization_of
from ebmtrain.samplers.chain import adaptation_of, init_adaptation, run_chain
from ebmtrain.types import (
    Batch,
    Count,
    Energy,
    LossOutput,
    NonNegative,
    Positive,
    Sampler,
    Space,
    StateSchema,
    Support,
    Tensors,
    schema_of,
)


@dataclass(frozen=True, kw_only=True)
class ContrastiveDivergence:
    """L = mean E(x) - mean E(x-), x- the ends of k-step chains that start again for every batch.

    With `start: data` the chains start at the batch: the variance is low, but modes of the model
    far from all data are never visited. With `start: noise` they start from N(0, noise_std^2 I), or
    from random states, which is short-run learning (Nijkamp et al., NeurIPS 2019): the k-step chain
    learns to generate data, and exp(-E) is then not a good density.

    The gradient through the chain is omitted, as in Hinton's rule.

    Args:
        sampler: kernel of the chains.
        k: steps of each chain.
        start: where chains start.
        noise_std: standard deviation of the first points for `start: noise`, in (standardized)
            units of x; not of states.
        support: of the points; the builder passes it.
        energy_regularization, data_noise: as for `PersistentChains`.
    """

    ragged: ClassVar[bool] = True
    spaces: ClassVar[frozenset[Space]] = frozenset({"real", "binary", "categorical"})

    sampler: Sampler
    k: Count = 10
    start: Literal["data", "noise"] = "data"
    noise_std: Positive = 1.5
    energy_regularization: NonNegative = 0.01
    data_noise: NonNegative = 0.0
    support: Support = REAL

    @property
    def state_schema(self) -> StateSchema:
        return schema_of(adaptation_of(self.sampler))

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return init_adaptation(self.sampler, x)

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x = add_noise(batch.x, self.data_noise, generator)
        first = x
        if self.start == "noise":
            first = self.support.method_starts(x, self.noise_std, generator)
        chain = run_chain(self.sampler, energy, first, self.k, generator, state)
        loss, energies = contrastive_loss(energy, x, chain.x, regularization_of(self))
        return LossOutput(loss, energies | chain.metrics, chain.adaptation_state)
