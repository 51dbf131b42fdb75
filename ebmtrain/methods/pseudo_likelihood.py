"""Pseudo-likelihood (Besag, Journal of the Royal Statistical Society B 36(2), 1974)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor

from ebmtrain.models.pair_selection import select_pairs
from ebmtrain.score import conditional_nll
from ebmtrain.types import (
    Batch,
    Count,
    LossOutput,
    NonNegative,
    Positive,
    Space,
    StateSchema,
    Tensors,
    replicated,
)


@dataclass(frozen=True, kw_only=True)
class PseudoLikelihood:
    """L = mean of -sum_i log p(x_i | all other x) over the batch + l2 ||theta||^2, of states. Needs
    no chains. Its minimum is the data's distribution if the model holds it.

    With `l1`, of model=ising: the pairs of sites are selected once, before the first update, by an
    L1 penalty on all training points, and the couplings of the others stay 0; those of the selected
    pairs have no such penalty. See `models.pair_selection`.

    Args:
        sites: number of sites that an update is computed from, selected at random and equal for all
            points of its batch, for the same expected gradient; null: all.
        l2: of the sum of squares of all parameters.
        l1: strength of the selection; held_out: that of the largest pseudo-likelihood on a fifth of
            the training points; null: all pairs.

    State: with `l1`, `selected_pairs`, (sites, sites), 0 and 1.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"binary", "categorical"})

    sites: Count | None = None
    l2: NonNegative = 0.0
    l1: Positive | Literal["held_out"] | None = None

    @staticmethod
    def conflicts(config: Mapping[str, Any]) -> list[str]:
        """A line if pairs are to be selected for a model without couplings, or with initial ones of
        another run."""
        model = config["model"]
        if config["method"].get("l1") is None:
            return []
        if "lattice" not in model:
            return ["method.l1 selects pairs of sites: model=ising, or method.l1=null"]
        if model.get("init") is not None:
            return [
                "method.l1 leaves the couplings of all other pairs as they begin, at 0, and "
                "model.init begins with others: method.l1=null, or leave model.init out"
            ]
        return []

    @property
    def state_schema(self) -> StateSchema:
        return {} if self.l1 is None else replicated("selected_pairs")

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        if self.l1 is None:
            return {}
        strength = None if self.l1 == "held_out" else float(self.l1)
        return {"selected_pairs": select_pairs(x, strength, generator)}

    def loss(self, energy: Any, batch: Batch, state: Tensors, generator: Generator) -> LossOutput:
        pairs = energy if self.l1 is None else energy.pairs(state["selected_pairs"])
        d = batch.x[0].numel()
        sites = torch.arange(d, device=batch.x.device)
        if self.sites is not None and self.sites < d:
            order = torch.randperm(d, generator=generator, device=batch.x.device)
            sites = order[: self.sites]
        nll = d * conditional_nll(pairs, batch.x, sites).mean()
        loss = nll
        if self.l2:
            loss = loss + self.l2 * sum(p.square().sum() for p in energy.parameters())
        return LossOutput(loss, {"conditional_nll": nll.detach()}, state)
