"""The shards of an update: equal parts of its batch and of the chains.

An update of V shards is the mean over V losses, each of a part of the batch with chains and random
numbers of its own. It is the same to the bit, whichever processes hold the shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Batch, Placement, StateSchema, Tensors

if TYPE_CHECKING:
    from ebmtrain.runtime.team import Team


@dataclass(frozen=True)
class Shards:
    """
    Args:
        total: V, number of shards.
        team: the processes that hold as many each; None: this process holds all.
    """

    total: int = 1
    team: Team | None = None

    @property
    def held(self) -> range:
        """Numbers of the shards of this process."""
        if self.team is None:
            return range(self.total)
        each = self.total // self.team.size
        return range(self.team.rank * each, (self.team.rank + 1) * each)

    def generators(self, seed: int, first: Generator) -> list[Generator]:
        """Those of all shards.

        Args:
            first: that of a run without shards.
        """
        if self.total == 1:
            return [first]
        seeds = [stream(seed, "train shard", i).initial_seed() for i in range(self.total)]
        return [Generator(first.device).manual_seed(number) for number in seeds]

    def own(self, state: Tensors, schema: StateSchema) -> Tensors:
        """The state of the shards of this process.

        Args:
            state: of a method, of all shards.
        """
        return state if self.team is None else split(state, schema, self.team.size)[self.team.rank]

    def rows_of(self, generator: Tensor) -> list[Tensor]:
        """The state of each generator of this process, from the item of a checkpoint.

        Raises:
            ValueError: it has another number of shards.
        """
        found = len(generator) if generator.dim() > 1 else 1
        if found != self.total:
            raise ValueError(f"its train.shards is {found}, not {self.total}")
        if self.total == 1:
            return [generator]
        return [generator[i].clone() for i in self.held]  # torch cannot read a state that is a view

    def part(self, batch: Batch, number: int) -> Batch:
        """The points of one shard."""
        if self.total == 1:
            return batch
        size = len(batch.x) // self.total
        rows = slice(number * size, (number + 1) * size)
        # Copies: the rounding of a product may depend on the alignment of its factors in memory.
        y = None if batch.y is None else batch.y[rows].clone()
        return Batch(batch.x[rows].clone(), y)

    def sum(self, rows: Tensor) -> Tensor:
        """The sum over all shards, in their order, of what each has: (held, n) -> (n,)."""
        return _add(rows) if self.team is None else self.team.sum_rows(rows, _add)


def _add(rows: Tensor) -> Tensor:
    """The sum of the rows, one after the other, (rows, n) -> (n,)."""
    total = rows[0]
    for row in rows[1:]:
        total = total + row
    return total


WHOLE = Shards()
"""One shard."""


def split(state: Tensors, schema: StateSchema, count: int) -> list[Tensors]:
    """The state of a method, of several shards, as that of each of `count` equal parts of them.

    Raises:
        ValueError: a tensor has no rows for each, or is not declared.
    """
    if count == 1:
        return [state]
    found = {name: _split(value, _placement(schema, name), count) for name, value in state.items()}
    return [{name: parts[i] for name, parts in found.items()} for i in range(count)]


def merge(states: Sequence[Tensors], schema: StateSchema) -> Tensors:
    """The inverse of `split`; of what is replicated the first."""
    if len(states) == 1:
        return states[0]
    return {
        name: _merge([state[name] for state in states], _placement(schema, name))
        for name in states[0]
    }


def _placement(schema: StateSchema, name: str) -> Placement:
    if name not in schema:
        raise ValueError(f"the method's state_schema does not declare {name!r}: train.shards=1")
    return schema[name]


_AXES = {Placement.PER_RANK: 0, Placement.PER_RANK_HALVES: 1, Placement.PER_RANK_LEVELS: 1}


def _split(value: Tensor, placement: Placement, count: int) -> Sequence[Tensor]:
    if placement is Placement.REPLICATED:
        return [value] * count
    if not value.dim():  # a count: the first part continues it
        return [value, *(torch.zeros_like(value) for _ in range(count - 1))]
    halves = placement is Placement.PER_RANK_HALVES
    value = value.unflatten(0, (2, -1)) if halves else value
    if value.shape[_AXES[placement]] % count:
        raise ValueError(f"{value.shape[_AXES[placement]]} chains do not make {count} equal parts")
    parts = [part.contiguous() for part in value.chunk(count, _AXES[placement])]
    return [part.flatten(0, 1) for part in parts] if halves else parts


def _merge(values: Sequence[Tensor], placement: Placement) -> Tensor:
    if placement is Placement.REPLICATED:
        return values[0]
    if not values[0].dim():
        return torch.stack(list(values)).sum(0)
    if placement is Placement.PER_RANK_HALVES:
        values = [value.unflatten(0, (2, -1)) for value in values]
        return torch.cat(values, 1).flatten(0, 1)
    return torch.cat(list(values), _AXES[placement])
