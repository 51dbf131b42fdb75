"""Block Gibbs sampling of energies with hidden units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.gibbs import StateChain
from ebmtrain.types import Energy, Space, StepInfo


@dataclass(frozen=True, kw_only=True)
class BlockGibbs:
    """h ~ p(h | v), then v' ~ p(v | h), all units of a layer at once. Leaves exp(-E(v)) invariant
    at temperature 1. The energy is `Bipartite`: it has `hidden` and `visible`.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"binary"})
    needs_hidden: ClassVar[bool] = True

    def init(self, energy: Energy, x: Tensor) -> StateChain:
        return StateChain(x)

    def step(
        self, energy: Any, state: StateChain, generator: Generator
    ) -> tuple[StateChain, StepInfo]:
        h = draw_states(energy.hidden(state.x), generator)
        return StateChain(draw_states(energy.visible(h), generator)), StepInfo()


def draw_states(p: Tensor, generator: Generator) -> Tensor:
    """Independent states that are 1 with probability p, elementwise; the type and shape of p."""
    return (torch.empty_like(p).uniform_(generator=generator) < p).to(p)
