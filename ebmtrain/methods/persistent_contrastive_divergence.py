"""Persistent contrastive divergence (Tieleman, ICML 2008), with a buffer of chain slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from ebmtrain.methods.contrast import add_noise
from ebmtrain.methods.persistent_chains import PersistentChains
from ebmtrain.types import Batch, Energy, LossOutput, Space, Tensors


@dataclass(frozen=True, kw_only=True)
class PersistentContrastiveDivergence(PersistentChains):
    """L = mean E(x) - mean E(x-), x- the ends of chains that persist from update to update.

    Arguments and state are those of `PersistentChains`.
    """

    ragged: ClassVar[bool] = True
    spaces: ClassVar[frozenset[Space]] = frozenset({"real", "binary", "categorical"})

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x = add_noise(batch.x, self.data_noise, generator)
        loss, energies, chain, after = self.contrast(energy, x, state, generator)
        return LossOutput(loss, energies | chain.metrics, after)
