"""Slots in which chains live on from one training step to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.masks import normal_like
from ebmtrain.samplers.bounds import unsqueeze_like
from ebmtrain.samplers.chain import init_adaptation, run_chain
from ebmtrain.types import Energy, Placement, Sampler, StateSchema, Tensors

BUFFER_SCHEMA: StateSchema = {
    "chains": Placement.PER_RANK,
    "ages": Placement.PER_RANK,
    "restarts": Placement.PER_RANK,
}
"""What the buffer keeps; the rest of a state is that of the sampler's adaptation."""


class Negatives(NamedTuple):
    """What a training step takes out of the buffer, and what it leaves."""

    x: Tensor
    """The ends of the drawn chains, (batch, *event), detached."""
    state: Tensors
    metrics: Tensors
    """Those of `run_chain`, and `restarted`, the share of the drawn chains that began anew, where
    any may."""


def slot_conflicts(config: Mapping[str, Any]) -> list[str]:
    """What `conflicts` of a method with a buffer says."""
    slots, batch = config["method"].get("slots"), config["train"]["batch_size"]
    if slots is None or slots >= batch:
        return []
    return [
        f"method.slots is {slots}, fewer than train.batch_size={batch}: raise method.slots or "
        "lower the batch"
    ]


def init_buffer(
    sampler: Sampler, slots: int, noise_std: float, x: Tensor, generator: Generator
) -> Tensors:
    """The first state: `chains` (slots, *event) from N(0, noise_std^2 I); `ages` (slots,), steps
    since the slot's last restart; `restarts` (), of all slots so far; what the sampler's adaptation
    knows.

    Of sequences of different lengths as many slots have each length as points do, as near as that
    can be, and keep it when they restart: were some length drawn more often than the data have it,
    the contrast would raise all energies of that length without end."""
    return {
        "chains": noise_std * normal_like(spread_evenly(x, slots), generator),
        "ages": torch.zeros(slots, dtype=torch.int64, device=x.device),
        "restarts": torch.zeros((), dtype=torch.int64, device=x.device),
    } | init_adaptation(sampler, x)


def spread_evenly(x: Tensor, count: int) -> Tensor:
    """`count` of the points, spread evenly over how much of them is there."""
    order = x.isnan().flatten(1).sum(1).argsort(stable=True)
    places = (torch.arange(count, device=x.device) * 2 + 1) * len(x) // (2 * count)
    return x[order[places]]


def sample_negatives(
    sampler: Sampler,
    energy: Energy,
    state: Tensors,
    generator: Generator,
    *,
    batch: int,
    k: int,
    reinit: float,
    noise_std: float,
) -> Negatives:
    """`batch` *distinct* slots, each restarted with probability `reinit` from N(0, noise_std^2 I),
    walk k steps; the ends are written back in place."""
    chains, ages, restarts = (state[name] for name in BUFFER_SCHEMA)
    learnt = {name: value for name, value in state.items() if name not in BUFFER_SCHEMA}
    restarted: Tensors = {}
    if batch > len(chains):
        raise ValueError(
            f"a batch of {batch} cannot be drawn from {len(chains)} chain slots: "
            f"raise method.slots to at least {batch} or lower train.batch_size"
        )
    drawn = torch.randperm(len(chains), generator=generator, device=chains.device)[:batch]
    first, age = chains[drawn], ages[drawn]
    if reinit:
        uniform = torch.empty(batch, device=chains.device).uniform_(generator=generator)
        restart = uniform < reinit
        fresh = noise_std * normal_like(first, generator)
        first = torch.where(unsqueeze_like(restart, first), fresh, first)
        age = age.masked_fill(restart, 0)
        restarts = restarts + restart.sum()
        restarted = {"restarted": restart.to(first).mean()}
    chain = run_chain(sampler, energy, first, k, generator, learnt)
    after = {
        "chains": chains.index_copy(0, drawn, chain.x),
        "ages": ages.index_copy(0, drawn, age + k),
        "restarts": restarts,
    } | chain.adaptation_state
    return Negatives(chain.x, after, chain.metrics | restarted)
