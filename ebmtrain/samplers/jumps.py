"""Moves between modes by differences of other chains (ter Braak, Stat. Comput. 16, 2006).

The halves that move in turn are those of emcee (Foreman-Mackey et al., PASP 125, 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.metropolis import accept_mask, acceptance_probability, choose
from ebmtrain.types import Count, Energy, Sampler

_S = TypeVar("_S", bound=tuple)


@dataclass(frozen=True, kw_only=True)
class DifferentialEvolution:
    """x_i' = x_i + (x_a - x_b), accepted with probability min(1, exp(-(E(x_i') - E(x_i)) / T)).

    Chain a and chain b are drawn from the half of the batch that chain i is not in, so that for
    fixed others the proposal is symmetric (a and b may change places) and the joint distribution
    prod_i exp(-E(x_i) / T) stays as it is. A difference of two chains in different modes is the
    way from one mode to the other: where modes are alike, chains cross barriers that no local step
    crosses. That is what gives modes their right weights in persistent training. A mode in which
    no chain is cannot be found this way.

    With jumps, the chains of a batch are no longer independent of each other, and a chain alone
    never jumps.

    Args:
        every: local steps between two rounds of jumps; each round costs as much as one step. A run
            of n steps (method.k, say) makes n // every rounds, the last at its end, and at least
            one.
    """

    every: Count

    def move(
        self, sampler: Sampler[_S], energy: Energy, state: _S, temperature: float, g: Generator
    ) -> tuple[_S, Tensor]:
        """One jump of every chain, and the mean acceptance, shape (). At least 4 chains; their
        state is a named tuple with `x` and `energy`."""
        middle = len(state.x) // 2  # type: ignore[attr-defined]
        first, second = _rows(state, slice(None, middle)), _rows(state, slice(middle, None))
        first, a = _jump(sampler, energy, first, second.x, temperature, g)  # type: ignore
        second, b = _jump(sampler, energy, second, first.x, temperature, g)  # type: ignore
        return _joined(first, second), torch.cat([a, b]).mean()


def _jump(sampler, energy, state, others: Tensor, temperature: float, g: Generator):
    n_others = len(others)
    a = torch.randint(n_others, (len(state.x),), generator=g, device=others.device)
    shift = torch.randint(1, n_others, (len(state.x),), generator=g, device=others.device)
    b = (a + shift) % n_others  # never a itself: a difference of zero moves nothing
    proposal = sampler.init(energy, state.x + others[a] - others[b])
    log_ratio = (state.energy - proposal.energy) / temperature
    accept = accept_mask(log_ratio, g)
    chosen = (
        choose(accept, new, old) if isinstance(old, Tensor) else old
        for new, old in zip(proposal, state, strict=True)
    )
    return type(state)(*chosen), acceptance_probability(log_ratio)


def _rows(state: _S, rows: slice) -> _S:
    return type(state)(*(v[rows] if isinstance(v, Tensor) else v for v in state))


def _joined(first: _S, second: _S) -> _S:
    pairs = zip(first, second, strict=True)
    return type(first)(*(torch.cat([a, b]) if isinstance(a, Tensor) else a for a, b in pairs))
