"""The part that is common to the methods with a buffer of persistent chains."""

from __future__ import annotations

from typing import Protocol

from torch import Generator, Tensor

from ebmtrain.methods.buffer import BUFFER_SCHEMA, Negatives, init_buffer, sample_negatives
from ebmtrain.methods.contrast import contrastive_loss
from ebmtrain.samplers.chain import adaptation_of
from ebmtrain.types import Energy, Sampler, StateSchema, Tensors, schema_of


class ChainOptions(Protocol):
    """The arguments of a method with persistent chains; the method itself is passed as these."""

    @property
    def sampler(self) -> Sampler:
        """Moves the chains."""
        ...

    @property
    def k(self) -> int:
        """Steps of each selected chain per update."""
        ...

    @property
    def slots(self) -> int:
        """Chains in the buffer, at least the batch."""
        ...

    @property
    def reinit(self) -> float:
        """Probability of a restart per selected chain, in [0, 1]."""
        ...

    @property
    def noise_std(self) -> float:
        """Standard deviation of the first and of every restarted point, > 0, standardized."""
        ...

    @property
    def energy_regularization(self) -> float:
        """alpha >= 0 of `contrastive_loss`."""
        ...


def chain_schema(options: ChainOptions) -> StateSchema:
    """The tensors of `initial_chains`."""
    return BUFFER_SCHEMA | schema_of(adaptation_of(options.sampler))


def initial_chains(options: ChainOptions, x: Tensor, generator: Generator) -> Tensors:
    """The state before the first update: the buffer, and the state of the sampler's adaptation."""
    return init_buffer(options.sampler, options.slots, options.noise_std, x, generator)


def contrast_with_chains(
    options: ChainOptions, energy: Energy, x: Tensor, state: Tensors, generator: Generator
) -> tuple[Tensor, Tensors, Negatives]:
    """One step of contrastive divergence with persistent chains.

    Args:
        x: a batch of data, (batch, *event).

    Returns:
        The contrastive loss of the batch and the ends of as many chains after k steps; its metrics;
        these chains.
    """
    chains = sample_negatives(
        options.sampler, energy, state, generator,
        batch=len(x), k=options.k, reinit=options.reinit, noise_std=options.noise_std,
    )  # fmt: skip
    loss, metrics = contrastive_loss(energy, x, chains.x, options.energy_regularization)
    return loss, metrics, chains
