"""The updates of several runs as one: `train.ensemble`.

The graph of one update (see `capture`) is mapped over the members by `torch.func.vmap`: each of its
operations is done once, on tensors with one row per member, in which their parameters, averages,
moments and chains live. Each member's random numbers come from its own generator, in the same order
as in a run of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor
from torch.func import vmap
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from ebmtrain.errors import reason
from ebmtrain.runtime.compiler_cache import use_disk_cache
from ebmtrain.runtime.signals import block_signals
from ebmtrain.training.compiled.cuda_graph import Recorded, recorder
from ebmtrain.training.compiled.decompositions import VMAP_DECOMPOSITIONS
from ebmtrain.training.compiled.inductor import (
    COMPILING_MESSAGE,
    MAX_GRAPHS,
    compile_graph,
    shape_key,
    state_mismatch,
)
from ebmtrain.training.compiled.trace import (
    RandomCall,
    UpdateGraph,
    clone_state,
    mutable_tensors,
    mutated_inputs,
    scalar_inputs,
    trace_update,
)
from ebmtrain.training.loop import StepRequest, StepResult, train_step
from ebmtrain.training.metrics import Metrics

LOG = logging.getLogger("ebmtrain")
_aten = torch.ops.aten
_EMPTY_TENSOR_OPS = (_aten.empty.memory_format, _aten.empty_like.default, _aten.new_empty.default)
_Program = Callable[[Sequence[StepRequest]], list[StepResult]]


class VmapTrainStep:
    """Makes updates of several runs of one kind, which differ in seeds and data.

    A member's first update is made by itself (see `Compiled`), and so is one that nobody is like.
    Each graph is tried against `train_step` before it is used. Where anything of this fails, one
    warning says so, and the members' updates are made one after the other. Results differ from
    those of runs by themselves by rounding.

    Args:
        compile: the graph is compiled; where that fails, it is used as it is.
        cuda_graph: a compiled graph is recorded as a CUDA graph on an NVIDIA GPU.
    """

    def __init__(self, *, compile: bool, cuda_graph: bool = False):
        self.compile = compile
        self.cuda_graph = cuda_graph
        self.programs: dict[Any, _Program] = {}
        self.failed = False

    @property
    def compiled(self) -> bool:
        return self.compile and not self.failed

    def __call__(self, wanted: Sequence[StepRequest]) -> list[StepResult]:
        groups: dict[Any, list[int]] = {}
        for place, update in enumerate(wanted):
            kind = (
                None
                if self.failed or update.state.step == 0
                else shape_key(update.batch, update.state)
            )
            groups.setdefault(kind, []).append(place)
        made: dict[int, StepResult] = {}
        for kind, places in groups.items():
            group = [wanted[place] for place in places]
            program = (
                run_one_by_one if kind is None or len(group) == 1 else self.program(kind, group)
            )
            made |= zip(places, program(group), strict=True)
        return [made[place] for place in range(len(wanted))]

    def program(self, kind: Any, group: Sequence[StepRequest]) -> _Program:
        """The program for such a group; `run_one_by_one` where no common graph is possible."""
        key = kind, len(group)
        if key not in self.programs and not self.failed:
            try:
                if len({kind, *(known for known, _ in self.programs)}) > MAX_GRAPHS:
                    raise ValueError(
                        f"batch and state have had more than {MAX_GRAPHS} sets of shapes"
                    )
                if self.compile and not self.programs:
                    LOG.info(COMPILING_MESSAGE)
                began = time.perf_counter()
                with block_signals():
                    self.programs[key] = self.made(group)
                LOG.info(
                    "the updates of %d members are made as one (the graph: %.1f s)",
                    len(group), time.perf_counter() - began,
                )  # fmt: skip
            except Exception as error:  # of a part or of torch
                self.failed = True
                LOG.warning(
                    "warning: train.ensemble: the members' updates are made one after the other "
                    "and not as one (%s)", reason(error),
                )  # fmt: skip
        return run_one_by_one if self.failed else self.programs[key]

    def made(self, group: Sequence[StepRequest]) -> _Program:
        """
        Raises:
            Exception: of any kind, where it cannot be done.
        """
        update = trace_update(*group[0], table=VMAP_DECOMPOSITIONS)
        batched = BatchedGraph(update, group)
        if self.compile:
            try:
                use_disk_cache()
                found = BatchedGraph(update, group, compile=True)
                verify(found, group)
                self.record(found, group)
                return found
            except Exception as error:  # of torch or of the C++ compiler
                self.compile = False
                LOG.warning(
                    "warning: device.compile: the update is not compiled and training goes on "
                    "without (%s)", reason(error),
                )  # fmt: skip
        verify(batched, group)
        return batched

    def record(self, found: BatchedGraph, group: Sequence[StepRequest]) -> None:
        """On a device that can: see `Compiled.compile`."""
        state = group[0].state
        record = recorder(state.diverged.device) if self.cuda_graph else None
        if record is None:
            return
        found.run = recording = Recorded(found.run, mutated_inputs(found.update, state), record)
        try:
            verify(found, group)
        except ValueError as error:
            recording.give_up(f"played again, {error}")


def run_one_by_one(group: Sequence[StepRequest]) -> list[StepResult]:
    """One after the other."""
    return [train_step(*update) for update in group]


def _batch_tensors(update: StepRequest) -> list[Tensor]:
    """What the batch has: points, and labels if there are some."""
    return [part for part in update.batch if part is not None]


def verify(program: _Program, group: Sequence[StepRequest]) -> None:
    """On copies; a chain whose acceptance hangs by a rounding error may go either way, so one of
    three updates of each member has to agree in full: see `compiled.disagreement`.

    Raises:
        ValueError: it does something else than `train_step`.
    """
    plain = _clone_updates(group)
    left: dict[int, str] = dict.fromkeys(range(len(group)), "")
    for _ in range(3):
        before, others = _clone_updates(plain), _clone_updates(plain)
        for i, (metrics, _) in enumerate(program(others)):
            found = state_mismatch(plain[i], before[i].state, others[i].state, metrics)
            if found is None:
                left.pop(i, None)
            elif i in left:
                left[i] = found
        if not left:
            return
    member, found = next(iter(left.items()))
    raise ValueError(f"of member {member} it does something else: {found}")


def _clone_updates(group: Sequence[StepRequest]) -> list[StepRequest]:
    """The same updates, of states of their own."""
    return [u._replace(state=clone_state(u.spec, u.state)) for u in group]


class BatchedGraph:
    """A captured update, made of as many members as the given group has."""

    def __init__(self, update: UpdateGraph, group: Sequence[StepRequest], *, compile: bool = False):
        self.update = update
        self.rows = MemberRows()
        examples = self.inputs(_clone_updates(group))
        graph = _vmap_graph(update.graph, examples)
        self.run = compile_graph(graph, examples) if compile else graph

    def __call__(self, group: Sequence[StepRequest]) -> list[StepResult]:
        update, states = self.update, [u.state for u in group]
        with torch.no_grad():
            vectors, *new = self.run(*self.inputs(group))
        for name, value in zip(update.replaced, new, strict=True):
            for state, row in zip(states, self.rows.given(name, value), strict=True):
                state.method[name] = row
        return [(Metrics(update.metrics, row), update.points) for row in vectors.unbind()]

    def inputs(self, group: Sequence[StepRequest]) -> list[Tensor]:
        """As `capture.inputs`, each with a row per member."""
        states = [u.state for u in group]
        columns = zip(*(mutable_tensors(state) for state in states), strict=True)
        kept = [self.rows.of(i, column) for i, column in enumerate(columns)]
        seen = [torch.stack(parts) for parts in zip(*map(_batch_tensors, group), strict=True)]
        like = next(states[0].energy.parameters())
        scalars = [
            _full_per_member(column, like)
            for column in zip(*(scalar_inputs(u.state, u.weight) for u in group), strict=True)
        ]
        for state in states:  # theirs alone: rows are put into them
            state.method = dict(state.method)
        method = [self.rows.of(k, [s.method[k] for s in states]) for k in states[0].method]
        drawn = [
            _random_per_member(draw, [s.generator for s in states]) for draw in self.update.draws
        ]
        return [*kept, *seen, *scalars, *method, *drawn]


class MemberRows:
    """Tensors with a row per member, in which the members' own live: what the graph changes in
    place, it changes in the members. Known by a key each."""

    def __init__(self) -> None:
        self.known: dict[int | str, tuple[Tensor, list[int]]] = {}

    def of(self, key: int | str, members: Sequence[Tensor]) -> Tensor:
        """Moves them there, if they live elsewhere: a member that went back to a checkpoint has
        new moments."""
        places = [tensor.data_ptr() for tensor in members]
        if key not in self.known or self.known[key][1] != places:
            rows = self.given(key, torch.stack([tensor.detach() for tensor in members]))
            for tensor, row in zip(members, rows, strict=True):
                tensor.data = row
        return self.known[key][0]

    def given(self, key: int | str, whole: Tensor) -> tuple[Tensor, ...]:
        """The rows of one that came out of the graph."""
        whole = whole.contiguous()
        rows = whole.unbind()
        self.known[key] = whole, [row.data_ptr() for row in rows]
        return rows


def _full_per_member(values: Sequence[float], like: Tensor) -> Tensor:
    """One number per member, made on the device: see `capture.inputs`."""

    def full(shape: tuple[int, ...], value: float) -> Tensor:
        return torch.full(shape, value, dtype=like.dtype, device=like.device)

    if len(set(values)) == 1:
        return full((len(values),), values[0])
    return torch.stack([full((), value) for value in values])


def _random_per_member(draw: RandomCall, generators: Iterable[Generator]) -> Tensor:
    """The random numbers that each of them gives, a row each."""
    return torch.stack([draw.replay(generator) for generator in generators])


def _vmap_graph(graph: GraphModule, examples: list[Tensor]) -> GraphModule:
    """The graph, each input and output of it with one row per member."""
    graph = _inline_random_inputs(graph)
    with _silence_fallback_warnings(), torch.no_grad():
        return make_fx(vmap(graph))(*examples)


def _inline_random_inputs(graph: GraphModule) -> GraphModule:
    """An empty tensor that random numbers are copied into is these numbers: one for all members
    would have no room for them."""
    for node in graph.graph.find_nodes(op="call_function", target=_aten.copy_.default):
        target, source = node.args[:2]
        if target.target in _EMPTY_TENSOR_OPS:
            node.replace_all_uses_with(source)
            target.replace_all_uses_with(source, lambda user, node=node: user is not node)
            graph.graph.erase_node(node)
            graph.graph.erase_node(target)
    graph.recompile()
    return graph


@contextmanager
def _silence_fallback_warnings() -> Iterator[None]:
    """An operation that torch cannot map is done member by member; torch would print a line about
    each."""
    torch._C._functorch._set_vmap_fallback_warning_enabled(False)  # type: ignore
    try:
        yield
    finally:
        torch._C._functorch._set_vmap_fallback_warning_enabled(True)  # type: ignore
