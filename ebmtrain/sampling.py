"""Points drawn from an energy for a user: burn-in, thinning, several chains side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.chain import run_chain, start_learning
from ebmtrain.score import frozen
from ebmtrain.types import Energy, Sampler, Tensors

_AT_ONCE = 8192  # points per call of an energy
_BLOCK = 10  # steps between two adaptations during burn-in


def draw(
    sampler: Sampler,
    energy: Energy,
    start: Tensor,
    *,
    count: int,
    burn_in: int,
    thin: int,
    generator: Generator,
    learnt: Tensors | None = None,
) -> Tensor:
    """`count` points, (count, *event): every `thin`-th of the chains that begin at `start`.

    The step size is adapted during the burn-in and fixed afterwards, so that the points that are
    kept come from a chain whose kernel does not depend on its past. What is annealed along a chain
    is annealed along the whole of it, burn-in included.

    Args:
        start: (chains, *event).
        count: points wanted; more than there are chains means several from each.
        burn_in: steps before the first point is taken.
        thin: steps between two points of a chain.
        generator: on start's device.
        learnt: what the sampler's adaptation knows already; see `learnt_in`.
    """
    x, state = start, None
    for done in range(0, burn_in, _BLOCK):
        n_steps = min(_BLOCK, burn_in - done)
        x, learnt, _, state = run_chain(sampler, energy, x, n_steps, generator, learnt, state)
    kept = [x]
    for _ in range(math.ceil(count / len(start)) - 1):
        x, _, _, state = run_chain(sampler, energy, x, thin, generator, learnt, state)
        kept.append(x)
    return torch.cat(kept)[:count]


@torch.no_grad()
def energies(energy: Energy, x: Tensor) -> Tensor:
    """E(x), (n,), of any number of points: in pieces, or a wide network would need all memory; in
    eval mode, or a layer that keeps statistics would learn from being looked at."""
    with frozen(energy):
        return torch.cat([energy(part) for part in x.split(_AT_ONCE)])


def learnt_in(method: Mapping[str, Tensor], sampler: Sampler, like: Tensor) -> Tensors:
    """What the sampler learnt in training, from the method's state; where the method runs no
    chains, what is known before the first run."""
    return {k: method.get(k, first) for k, first in start_learning(sampler, like).items()}


def starts(points: Tensor, chains: int, generator: Generator) -> Tensor:
    """`chains` rows of `points`, distinct where there are enough of them."""
    n = len(points)
    order = torch.cat(
        [
            torch.randperm(n, generator=generator, device=points.device)
            for _ in range(math.ceil(chains / n))
        ]
    )
    return points[order[:chains]]
