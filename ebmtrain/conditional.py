"""Draws from the density that a model leaves where something is known of a point: chains of the
run's own sampler, some for each point."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Generator, Tensor, nn

from ebmtrain.build import Parts
from ebmtrain.samplers.chain import start_learning
from ebmtrain.sampling import draw
from ebmtrain.settings import Samples
from ebmtrain.types import Tensors

FEWEST_CHAINS = 64  # of each point: chains that jump propose by each other's differences


def chains_of_each(wanted: Samples) -> int:
    """How many run for a point."""
    return min(wanted.chains, max(wanted.count, FEWEST_CHAINS))


def conditional_draws(
    parts: Parts,
    energy: nn.Module,
    method: Mapping[str, Tensor],
    start: Tensor,
    count: int,
    wanted: Samples,
    generator: Generator,
) -> Tensor:
    """(count, m), after a burn-in of their own.

    Args:
        energy: of m numbers, (batch, m) -> (batch,).
        method: the state of the method, for what its sampler learnt.
        start: (chains, m).
        wanted: its burn_in and thin.
    """
    return draw(
        parts.sampler,
        energy,
        start,
        count=count,
        burn_in=wanted.burn_in,
        thin=wanted.thin,
        generator=generator,
        learnt=known_steps(parts, method, start),
    )


def known_steps(parts: Parts, method: Mapping[str, Tensor], start: Tensor) -> Tensors:
    """What the sampler learnt in training and can use here; its hot chains, of whole points, begin
    anew."""
    first = start_learning(parts.sampler, start)
    fits = {k for k, v in first.items() if k in method and method[k].shape == v.shape}
    return {k: method[k] if k in fits else v for k, v in first.items()}
