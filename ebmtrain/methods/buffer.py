"""A buffer of persistent chains, kept from one update to the next."""

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
    """Negative samples of one update, and the state of the buffer after it."""

    x: Tensor
    """The last points of the chains, (batch, *event), detached."""
    state: Tensors
    metrics: Tensors
    """Those of `run_chain`, and, if `reinit` > 0, `restarted`: the share of restarted chains."""


def slot_conflicts(config: Mapping[str, Any]) -> list[str]:
    """Problems of a configuration whose method has a buffer; []: there are none."""
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

    Sequence lengths are distributed over the slots as over the points, and a slot keeps its length
    when it restarts: if some length were more frequent among the slots than in the data, the
    contrast would raise all energies of that length without bound."""
    return {
        "chains": noise_std * normal_like(spread_evenly(x, slots), generator),
        "ages": torch.zeros(slots, dtype=torch.int64, device=x.device),
        "restarts": torch.zeros((), dtype=torch.int64, device=x.device),
    } | init_adaptation(sampler, x)


def spread_evenly(x: Tensor, count: int) -> Tensor:
    """`count` of the points at evenly spaced ranks of sequence length."""
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
    """Run k steps from `batch` *distinct* slots and write the last points back to these slots.

    Each chain is first restarted from N(0, noise_std^2 I) with probability `reinit`.

    Raises:
        ValueError: there are fewer slots than `batch`.
    """
    chains, ages, restarts = (state[name] for name in BUFFER_SCHEMA)
    learnt = {name: value for name, value in state.items() if name not in BUFFER_SCHEMA}
    restarted: Tensors = {}
    if batch > len(chains):
        raise ValueError(
            f"a batch of {batch} cannot be drawn from {len(chains)} chain slots: "
            f"raise method.slots to at least {batch} or lower train.batch_size"
        )
    slots = torch.randperm(len(chains), generator=generator, device=chains.device)[:batch]
    first, age = chains[slots], ages[slots]
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
        "chains": chains.index_copy(0, slots, chain.x),
        "ages": ages.index_copy(0, slots, age + k),
        "restarts": restarts,
    } | chain.adaptation_state
    return Negatives(chain.x, after, chain.metrics | restarted)
