"""State that a checkpoint holds, and what it means for several processes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple, Protocol, TypedDict, runtime_checkable

from torch import Tensor

Tensors = dict[str, Tensor]
"""State that a checkpoint can hold: flat, names to tensors, nothing else."""


class Placement(Enum):
    """Where a tensor of a method's state belongs when several processes train one model."""

    PER_RANK = "per rank"
    """Each process has its own: chains and what belongs to them. A checkpoint holds all of them:
    their rows one after the other, and the sum of a scalar, which counts something."""
    PER_RANK_HALVES = "per rank, in halves"
    """Likewise, with two groups of equal size in the first dimension."""
    PER_RANK_LEVELS = "per rank, of each level"
    """Likewise, with the rows in the second dimension."""
    REPLICATED = "replicated"
    """The same on every process: an adapted step size, a log Z, a fitted noise distribution. What
    a loss returns is averaged over the processes, unless it is what the loss was given."""


StateSchema = dict[str, Placement]
"""Every tensor of a state, by its name."""


def per_rank(*names: str, placement: Placement = Placement.PER_RANK) -> StateSchema:
    return dict.fromkeys(names, placement)


def replicated(*names: str) -> StateSchema:
    return dict.fromkeys(names, Placement.REPLICATED)


class TrainingItems(TypedDict):
    """The items of a checkpoint that training saves and restores. A run adds its own to them: see
    `runs.storage.checkpoint_schema`, which validates all of them."""

    step: int
    energy: Tensors
    """Parameters and buffers."""
    average: Tensors | None
    """Likewise of the moving average; None: none is kept."""
    optimizer: dict[str, Any]
    """Its `state` and `param_groups`."""
    method: Tensors
    generator: Tensor
    """State of the generator of all draws; with several shards a row for each of them."""
    evaluations: int
    """Of the energy, so far."""
    retries: list[dict[str, Any]]
    """step, back_to and lr of each."""
    window: list[tuple[list[str], Tensor]]
    """Names and values, (rows, names), of metrics since the last row."""
    pending: dict[str, float] | None
    """The row of metrics of this step while its callbacks have not run; None: they have."""


@runtime_checkable
class DeclaresState(Protocol):
    """A method or an adaptation with tensors of its own. Its schema has the keys that `init` of a
    method, or `start` of an adaptation, returns; without a declaration it returns none.

    This is the contract for training in several processes; `tests/methods/test_state_schema.py`
    holds every built-in method to it.
    """

    @property
    def state_schema(self) -> StateSchema: ...


def schema_of(part: object) -> StateSchema:
    """The tensors of a part's state; {}: it declares none."""
    return part.state_schema if isinstance(part, DeclaresState) else {}


class MethodChains(NamedTuple):
    """The persistent chains in a method's state: its fields are the keys of the state."""

    chains: Tensor
    """(n, *event), standardized."""
    log_weights: Tensor | None
    """(n,): the chains represent the model with weights softmax(log_weights). None: equal ones."""
    ages: Tensor | None
    """(n,), int64: steps since the last restart of each chain."""
    restarts: Tensor | None
    """(), int64: of all chains so far."""


def method_chains(state: Mapping[str, Tensor]) -> MethodChains | None:
    """The persistent chains of a method; None: it keeps none."""
    if "chains" not in state:
        return None
    return MethodChains(
        state["chains"], state.get("log_weights"), state.get("ages"), state.get("restarts")
    )
