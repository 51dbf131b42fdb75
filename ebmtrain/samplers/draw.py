"""Sampling from an energy by parallel chains, with burn-in and thinning."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Generator, Tensor

from ebmtrain.errors import CheckpointError
from ebmtrain.samplers.chain import Chain, init_adaptation, run_chain
from ebmtrain.types import Energy, Sampler, Tensors

_STEPS_PER_ADAPTATION = 10  # in the burn-in


def draw(
    sampler: Sampler,
    energy: Energy,
    start: Tensor,
    *,
    count: int,
    burn_in: int,
    thin: int,
    generator: Generator,
    adaptation_state: Tensors | None = None,
) -> Tensor:
    """`count` points, (count, *event): every `thin`-th state of chains that start at `start`.

    The step size is adapted during the burn-in and fixed afterwards, so the kernel of the returned
    points does not depend on the chain's past. An annealing schedule covers the whole chain,
    burn-in included.

    Args:
        start: first points, (chains, *event).
        count: points to return; with more than `chains`, each chain gives several.
        burn_in: steps before the first returned point.
        thin: steps between two returned points of a chain.
        generator: on the device of `start`.
        adaptation_state: of the sampler's adaptation, see `restore_adaptation`; None: the initial
            one.
    """
    points = start.new_empty(count, *start.shape[1:])  # if memory is short, fails before any step
    first = run_burn_in(sampler, energy, start, burn_in, generator, adaptation_state)
    n_more = math.ceil(count / len(start)) - 1
    others = iterate_draws(sampler, energy, first, n_more, thin, generator)
    for rows, chain in zip(points.split(len(start)), itertools.chain([first], others), strict=True):
        rows.copy_(chain.x[: len(rows)])
    return points


def run_burn_in(
    sampler: Sampler,
    energy: Energy,
    start: Tensor,
    burn_in: int,
    generator: Generator,
    adaptation_state: Tensors | None = None,
) -> Chain:
    """The chains after the burn-in, during which the sampler adapts. Arguments as for `draw`."""
    first = Chain(start, adaptation_state or init_adaptation(sampler, start), {}, None)
    return _continue(sampler, energy, first, burn_in, generator)


def _continue(
    sampler: Sampler, energy: Energy, chain: Chain, n_steps: int, generator: Generator
) -> Chain:
    """The chains after `n_steps` further steps, during which the sampler adapts."""
    for done in range(0, n_steps, _STEPS_PER_ADAPTATION):
        n = min(_STEPS_PER_ADAPTATION, n_steps - done)
        chain = run_chain(
            sampler, energy, chain.x, n, generator, chain.adaptation_state, chain.state
        )
    return chain


def iterate_draws(
    sampler: Sampler, energy: Energy, chain: Chain, draws: int, thin: int, generator: Generator
) -> Iterator[Chain]:
    """`draws` times the chains after `thin` further steps each, without adaptation."""
    adaptation_state = chain.adaptation_state
    for _ in range(draws):
        chain = run_chain(sampler, energy, chain.x, thin, generator, adaptation_state, chain.state)
        yield chain


def trajectory(
    sampler: Sampler,
    energy: Energy,
    start: Tensor,
    steps: Sequence[int],
    generator: Generator,
    adaptation_state: Tensors | None = None,
) -> Tensor:
    """The points of chains after the given numbers of steps, (len(steps), chains, *event). The
    sampler adapts as in a burn-in.

    Args:
        steps: ascending, >= 0.
    """
    chain = Chain(start, adaptation_state or init_adaptation(sampler, start), {}, None)
    seen = []
    for before, step in itertools.pairwise([0, *steps]):
        chain = _continue(sampler, energy, chain, step - before, generator)
        seen.append(chain.x)
    return torch.stack(seen)


def restore_adaptation(method: Mapping[str, Tensor], sampler: Sampler, like: Tensor) -> Tensors:
    """The state of the sampler's adaptation in a method's state; the initial one if the method runs
    no chains.

    Raises:
        CheckpointError: the state is that of another sampler.
    """
    adaptation_state = {}
    for name, first in init_adaptation(sampler, like).items():
        adaptation_state[name] = value = method.get(name, first)
        if value.shape != first.shape:
            raise CheckpointError(
                f"the checkpoint's {name} has shape {tuple(value.shape)}, the sampler of "
                f"this configuration wants {tuple(first.shape)}: restore its config.yaml"
            )
    return adaptation_state


def sample_rows(points: Tensor, chains: int, generator: Generator) -> Tensor:
    """`chains` random rows of `points`, without replacement if there are enough of them."""
    n = len(points)
    order = torch.cat(
        [
            torch.randperm(n, generator=generator, device=points.device)
            for _ in range(math.ceil(chains / n))
        ]
    )
    return points[order[:chains]]
