"""A buffer of persistent chains, and the contrast of data with them: what several methods have in
common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.support import REAL
from ebmtrain.methods.contrast import contrastive_loss, regularization_of
from ebmtrain.samplers.bounds import unsqueeze_like
from ebmtrain.samplers.chain import Chain, adaptation_of, init_adaptation, run_chain
from ebmtrain.types import (
    ChainCount,
    Count,
    Energy,
    NonNegative,
    Positive,
    Probability,
    Sampler,
    StateSchema,
    Support,
    Tensors,
    per_rank,
    schema_of,
)

_BUFFER_SCHEMA: StateSchema = per_rank("chains", "ages", "restarts")


@dataclass(frozen=True, kw_only=True)
class PersistentChains:
    """Chains that persist from update to update: the arguments and the state of a method that has
    them. The method derives from it and defines `loss`.

    A buffer holds `slots` chains. An update selects *distinct* slots, as many as the batch has
    points, restarts each with probability `reinit` from N(0, noise_std^2 I), or from random states,
    runs k steps and writes the ends back. (A replay queue of past samples differs: its points are
    not states of a chain.) Slots hold positions only, because an energy stored before a parameter
    update would be wrong.

    Args:
        sampler: kernel of the chains.
        k: steps of each selected chain per update.
        slots: chains in the buffer, at least the batch size.
        reinit: probability of a restart per selected chain (0.05 in JEM: Grathwohl et al., 2020).
        noise_std: standard deviation of the first and of restarted points, in (standardized) units
            of x; not of states.
        energy_regularization: alpha of `contrastive_loss`. It biases the density; keep it small.
            Not of symbols of an alphabet.
        data_noise: standard deviation of Gaussian noise added to each batch, in (standardized)
            units of x.
        support: of the points; the builder passes it.

    State: `chains` (slots, *event); `ages` (slots,), steps since the slot's last restart;
    `restarts` (), of all slots so far; the state of the sampler's adaptation.
    """

    sampler: Sampler
    k: Count = 5
    slots: ChainCount = 4096
    reinit: Probability = 0.0
    noise_std: Positive = 1.5
    energy_regularization: NonNegative = 0.01
    data_noise: NonNegative = 0.0
    support: Support = REAL

    @staticmethod
    def conflicts(config: Mapping[str, Any]) -> list[str]:
        """One line if the configuration has fewer slots than points in a batch."""
        slots, batch = config["method"].get("slots"), config["train"]["batch_size"]
        if slots is None or slots >= batch:
            return []
        return [
            f"method.slots is {slots}, fewer than train.batch_size={batch}: raise method.slots or "
            "lower the batch"
        ]

    @property
    def state_schema(self) -> StateSchema:
        return _BUFFER_SCHEMA | schema_of(adaptation_of(self.sampler))

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        """The first state, with chains from N(0, noise_std^2 I), or from random states.

        Sequence lengths are distributed over the slots as over the points, and a slot keeps its
        length when it restarts: if some length were more frequent among the slots than in the data,
        the contrast would raise all energies of that length without bound."""
        return {
            "chains": self.support.method_starts(
                _spread_evenly(x, self.slots), self.noise_std, generator
            ),
            "ages": torch.zeros(self.slots, dtype=torch.int64, device=x.device),
            "restarts": torch.zeros((), dtype=torch.int64, device=x.device),
        } | init_adaptation(self.sampler, x)

    def contrast(
        self, energy: Energy, x: Tensor, state: Tensors, generator: Generator
    ) -> tuple[Tensor, Tensors, Chain, Tensors]:
        """Contrastive divergence of a batch, (batch, *event), with the ends of as many chains.

        Returns:
            The contrastive loss; the mean energies; the run of the chains, whose metrics have
            `restarted`, the share of restarted chains, if `reinit` > 0; the state after it.

        Raises:
            ValueError: there are fewer slots than points.
        """
        chains, ages, restarts = (state[name] for name in _BUFFER_SCHEMA)
        adapted = {name: value for name, value in state.items() if name not in _BUFFER_SCHEMA}
        restarted: Tensors = {}
        if len(x) > len(chains):
            raise ValueError(
                f"a batch of {len(x)} cannot be drawn from {len(chains)} chain slots: "
                f"raise method.slots to at least {len(x)} or lower train.batch_size"
            )
        slots = torch.randperm(len(chains), generator=generator, device=chains.device)[: len(x)]
        first, age = chains[slots], ages[slots]
        if self.reinit:
            uniform = torch.empty(len(x), device=chains.device).uniform_(generator=generator)
            restart = uniform < self.reinit
            fresh = self.support.method_starts(first, self.noise_std, generator)
            first = torch.where(unsqueeze_like(restart, first), fresh, first)
            age = age.masked_fill(restart, 0)
            restarts = restarts + restart.sum()
            restarted = {"restarted": restart.to(first).mean()}
        chain = run_chain(self.sampler, energy, first, self.k, generator, adapted)
        after = {
            "chains": chains.index_copy(0, slots, chain.x),
            "ages": ages.index_copy(0, slots, age + self.k),
            "restarts": restarts,
        } | chain.adaptation_state
        loss, energies = contrastive_loss(energy, x, chain.x, regularization_of(self))
        return loss, energies, chain._replace(metrics=chain.metrics | restarted), after


def _spread_evenly(x: Tensor, count: int) -> Tensor:
    """`count` of the points at evenly spaced ranks of sequence length."""
    order = x.isnan().flatten(1).sum(1).argsort(stable=True)
    places = (torch.arange(count, device=x.device) * 2 + 1) * len(x) // (2 * count)
    return x[order[places]]
