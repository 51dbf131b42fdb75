"""Points drawn from an energy for a user: burn-in, thinning, several chains side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Generator, Tensor

from ebmtrain.errors import CheckpointError
from ebmtrain.samplers.chain import Chain, run_chain, start_learning
from ebmtrain.types import Energy, Sampler, Tensors

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
    points = start.new_empty(count, *start.shape[1:])  # first: too many are refused before a step
    begun = settled(sampler, energy, start, burn_in, generator, learnt)
    further = math.ceil(count / len(start)) - 1
    walked = going_on(sampler, energy, begun, further, thin, generator)
    for place, chain in zip(
        points.split(len(start)), itertools.chain([begun], walked), strict=True
    ):
        place.copy_(chain.x[: len(place)])
    return points


def settled(
    sampler: Sampler,
    energy: Energy,
    start: Tensor,
    burn_in: int,
    generator: Generator,
    learnt: Tensors | None = None,
) -> Chain:
    """Chains after their burn-in, in which the sampler adapts; arguments as those of `draw`."""
    chain = Chain(start, start_learning(sampler, start) if learnt is None else learnt, {}, None)
    for done in range(0, burn_in, _BLOCK):
        n_steps = min(_BLOCK, burn_in - done)
        chain = run_chain(sampler, energy, chain.x, n_steps, generator, chain.learnt, chain.state)
    return chain


def going_on(
    sampler: Sampler, energy: Energy, chain: Chain, draws: int, thin: int, generator: Generator
) -> Iterator[Chain]:
    """The same chains after every `thin` steps, `draws` times, with what was learnt fixed."""
    learnt = chain.learnt
    for _ in range(draws):
        chain = run_chain(sampler, energy, chain.x, thin, generator, learnt, chain.state)
        yield chain


def evolution(
    sampler: Sampler,
    energy: Energy,
    start: Tensor,
    steps: Sequence[int],
    generator: Generator,
    learnt: Tensors | None = None,
) -> Tensor:
    """Where chains are after so many steps each, (len(steps), chains, *event), the sampler adapting
    as it does in a burn-in.

    Args:
        steps: ascending, >= 0.
    """
    chain, done, seen = Chain(start, learnt or start_learning(sampler, start), {}, None), 0, []
    for step in steps:
        while done < step:
            n = min(_BLOCK, step - done)
            chain = run_chain(sampler, energy, chain.x, n, generator, chain.learnt, chain.state)
            done += n
        seen.append(chain.x)
    return torch.stack(seen)


def learnt_in(method: Mapping[str, Tensor], sampler: Sampler, like: Tensor) -> Tensors:
    """What the sampler learnt in training, from the method's state; where the method runs no
    chains, what is known before the first run.

    Raises:
        CheckpointError: it is of another sampler.
    """
    learnt = {}
    for name, first in start_learning(sampler, like).items():
        learnt[name] = method.get(name, first)
        if learnt[name].shape != first.shape:
            raise CheckpointError(
                f"the checkpoint's {name} has shape {tuple(learnt[name].shape)}, the sampler of "
                f"this configuration wants {tuple(first.shape)}: restore its config.yaml"
            )
    return learnt


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
