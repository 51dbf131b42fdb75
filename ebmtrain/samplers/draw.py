"""Points drawn from an energy for a user: burn-in, thinning, several chains side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Generator, Tensor

from ebmtrain.errors import CheckpointError
from ebmtrain.samplers.chain import Chain, init_adaptation, run_chain
from ebmtrain.types import Energy, Sampler, Tensors

_STEPS_PER_ADAPTATION = 10  # steps between two adaptations during burn-in


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
        adaptation_state: what the sampler's adaptation knows already; see `restore_adaptation`.
    """
    points = start.new_empty(count, *start.shape[1:])  # first: too many are refused before a step
    begun = run_burn_in(sampler, energy, start, burn_in, generator, adaptation_state)
    further = math.ceil(count / len(start)) - 1
    walked = iterate_draws(sampler, energy, begun, further, thin, generator)
    for place, chain in zip(
        points.split(len(start)), itertools.chain([begun], walked), strict=True
    ):
        place.copy_(chain.x[: len(place)])
    return points


def run_burn_in(
    sampler: Sampler,
    energy: Energy,
    start: Tensor,
    burn_in: int,
    generator: Generator,
    adaptation_state: Tensors | None = None,
) -> Chain:
    """Chains after their burn-in, in which the sampler adapts; arguments as those of `draw`."""
    chain = Chain(
        start,
        init_adaptation(sampler, start) if adaptation_state is None else adaptation_state,
        {},
        None,
    )
    for done in range(0, burn_in, _STEPS_PER_ADAPTATION):
        n_steps = min(_STEPS_PER_ADAPTATION, burn_in - done)
        chain = run_chain(
            sampler, energy, chain.x, n_steps, generator, chain.adaptation_state, chain.state
        )
    return chain


def iterate_draws(
    sampler: Sampler, energy: Energy, chain: Chain, draws: int, thin: int, generator: Generator
) -> Iterator[Chain]:
    """The same chains after every `thin` steps, `draws` times, with the adaptation fixed."""
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
    """Where chains are after so many steps each, (len(steps), chains, *event), the sampler adapting
    as it does in a burn-in.

    Args:
        steps: ascending, >= 0.
    """
    chain, done, seen = (
        Chain(start, adaptation_state or init_adaptation(sampler, start), {}, None),
        0,
        [],
    )
    for step in steps:
        while done < step:
            n = min(_STEPS_PER_ADAPTATION, step - done)
            chain = run_chain(
                sampler, energy, chain.x, n, generator, chain.adaptation_state, chain.state
            )
            done += n
        seen.append(chain.x)
    return torch.stack(seen)


def restore_adaptation(method: Mapping[str, Tensor], sampler: Sampler, like: Tensor) -> Tensors:
    """The state of the sampler's adaptation, from the method's state; where the method runs no
    chains, what is known before the first run.

    Raises:
        CheckpointError: it is of another sampler.
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
    """`chains` rows of `points`, distinct where there are enough of them."""
    n = len(points)
    order = torch.cat(
        [
            torch.randperm(n, generator=generator, device=points.device)
            for _ in range(math.ceil(chains / n))
        ]
    )
    return points[order[:chains]]
