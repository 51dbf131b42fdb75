"""Differential evolution moves between modes (ter Braak, Statistics and Computing 16, 2006).

Two halves of the chains move in turn, as in emcee (Foreman-Mackey et al., PASP 125, 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.metropolis import accept_or_reject
from ebmtrain.types import Count, Energy, Sampler

_S = TypeVar("_S", bound=tuple)


@dataclass(frozen=True, kw_only=True)
class DifferentialEvolution:
    """x_i' = x_i + (x_a - x_b), accepted with probability min(1, exp(-(E(x_i') - E(x_i)) / T)).

    Chains a and b are drawn from the half of the batch that does not contain chain i. Given that
    half, the proposal is symmetric (a and b are exchangeable), and the joint distribution
    prod_i exp(-E(x_i) / T) is invariant. The difference of two chains in different modes is a
    vector from one mode to the other: between modes of similar shape, chains cross barriers that
    local steps do not cross. This gives modes their correct weights in persistent training. A mode
    without any chain cannot be found this way.

    With jumps the chains of a batch are not independent of each other, and a single chain never
    jumps.

    Args:
        every: local steps between two rounds of jumps. A round costs as much as one step. A run of
            n steps (for example method.k) makes max(1, n // every) rounds, the last one at its end.
    """

    every: Count

    def move(
        self, sampler: Sampler[_S], energy: Energy, state: _S, temperature: float, g: Generator
    ) -> tuple[_S, Tensor]:
        """The state after one jump of every chain, and the mean acceptance, shape ().

        Args:
            state: of at least 4 chains; a named tuple with `x` and `energy`.
        """
        middle = len(state.x) // 2  # type: ignore[attr-defined]
        first, second = _rows(state, slice(None, middle)), _rows(state, slice(middle, None))
        first, a = _jump(sampler, energy, first, second.x, temperature, g)  # type: ignore
        second, b = _jump(sampler, energy, second, first.x, temperature, g)  # type: ignore
        return _concatenate(first, second), torch.cat([a, b]).mean()


def _jump(sampler, energy, state, others: Tensor, temperature: float, g: Generator):
    n_others = len(others)
    a = torch.randint(n_others, (len(state.x),), generator=g, device=others.device)
    shift = torch.randint(1, n_others, (len(state.x),), generator=g, device=others.device)
    b = (a + shift) % n_others  # never equal to a: a zero difference moves nothing
    proposal = sampler.init(energy, state.x + others[a] - others[b])
    log_ratio = (state.energy - proposal.energy) / temperature
    return accept_or_reject(log_ratio, proposal, state, g)


def _rows(state: _S, rows: slice) -> _S:
    return type(state)(*(v[rows] if isinstance(v, Tensor) else v for v in state))


def _concatenate(first: _S, second: _S) -> _S:
    pairs = zip(first, second, strict=True)
    return type(first)(*(torch.cat([a, b]) if isinstance(a, Tensor) else a for a, b in pairs))
