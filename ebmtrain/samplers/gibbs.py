"""Gibbs sampling of binary states (Geman & Geman, IEEE PAMI 6, 1984)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.score import flip_differences
from ebmtrain.types import Energy, Positive, Space, StepInfo


class StateChain(NamedTuple):
    x: Tensor
    """(batch, *event), states 0 and 1."""


@dataclass(frozen=True, kw_only=True)
class Gibbs:
    """x_i ~ p(x_i | all other x) for each site i in turn: x_i flips with probability
    1 / (1 + exp((E(x with x_i flipped) - E(x)) / T)). A step is one sweep over all sites.

    Leaves exp(-E / T) invariant. An energy whose sites interact in pairs has a `gibbs_sweep` of its
    own. One whose sites fall into groups without interactions inside gives them as `colours`, a
    list of int64 tensors, and each group is updated in one go. A sweep of another energy of d sites
    takes d evaluations, unless it has `flip_differences`.

    Args:
        temperature: T > 0. The target is exp(-E / T).
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"binary", "categorical"})

    temperature: Positive = 1.0

    def init(self, energy: Energy, x: Tensor) -> StateChain:
        return StateChain(x)

    def step(
        self, energy: Energy, state: StateChain, generator: Generator
    ) -> tuple[StateChain, StepInfo]:
        uniform = torch.empty_like(state.x).uniform_(generator=generator)
        sweep = getattr(energy, "gibbs_sweep", None)
        if sweep is not None:
            return StateChain(sweep(state.x, uniform, self.temperature)), StepInfo()
        x, uniform = state.x.flatten(1), uniform.flatten(1)
        every = torch.arange(x.shape[1], device=x.device)
        for sites in getattr(energy, "colours", None) or every.split(1):
            change = flip_differences(energy, x.view(state.x.shape), sites)
            flips = uniform[:, sites] < torch.sigmoid(-change / self.temperature)
            old = x[:, sites]
            x = x.index_copy(1, sites, torch.where(flips, 1 - old, old))
        return StateChain(x.view(state.x.shape)), StepInfo()
