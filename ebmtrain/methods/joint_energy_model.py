"""Joint energy model, a classifier and a density in one network (JEM; Grathwohl et al., ICLR
2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Generator
from torch.nn.functional import cross_entropy

from ebmtrain.methods.contrast import add_noise
from ebmtrain.methods.persistent_chains import PersistentChains
from ebmtrain.types import Batch, Energy, Joint, LossOutput, NonNegative, Tensors


@dataclass(frozen=True, kw_only=True)
class JointEnergyModel(PersistentChains):
    """L = mean E(x) - mean E(x-) + w * mean -log softmax_y(-E(x, y)),  E(x) = -log sum_y exp(-E(x,
    y)).

    The two terms estimate -log p(x) and -log p(y | x): persistent contrastive divergence for the
    density, with x- the ends of persistent chains, and cross entropy for the classes. At
    temperature 1 and w = 1 their sum is -log p(x, y) of one density.

    Args, besides those of `PersistentChains`, as is the state:
        classification: w (1 in the paper).

    Additional metrics, of the batch: cross_entropy in nats, accuracy_train.
    """

    needs_labels: ClassVar[bool] = True
    classification: NonNegative = 1.0

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        if batch.y is None:
            raise ValueError("a batch without labels: method=pcd, or data with labels")
        x = add_noise(batch.x, self.data_noise, generator)
        loss, metrics, chain, after = self.contrast(energy, x, state, generator)
        logits = -cast(Joint, energy).joint(x)  # the builder refuses any other energy
        nll = cross_entropy(logits, batch.y)
        accuracy = (logits.argmax(1) == batch.y).to(logits).mean()
        metrics |= {"cross_entropy": nll.detach(), "accuracy_train": accuracy}
        return LossOutput(loss + self.classification * nll, metrics | chain.metrics, after)
