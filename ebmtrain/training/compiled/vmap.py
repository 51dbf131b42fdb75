"""The updates of several runs as one: `train.ensemble`.

The graph of one update (see trace.py) is mapped over the members by `torch.func.vmap`: each
operation runs once, on tensors with one row per member that hold parameters, averages, moments and
chains. Each member's random numbers come from its own generator, in the same order as in a separate
run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from ebmtrain.errors import reason
from ebmtrain.runtime.compiler_cache import use_disk_cache
from ebmtrain.runtime.torch_private import no_vmap_fallback_warnings
from ebmtrain.training.compiled.cuda_graph import TensorFunction, recorder
from ebmtrain.training.compiled.decompositions import VMAP_DECOMPOSITIONS
from ebmtrain.training.compiled.inductor import (
    COMPILING_MESSAGE,
    NOT_COMPILED,
    check_graph_count,
    compile_graph,
    record_cuda_graph,
    shape_key,
)
from ebmtrain.training.compiled.trace import (
    UpdateGraph,
    mutable_tensors,
    scalar_inputs,
    trace_update,
)
from ebmtrain.training.compiled.verify import Program, clone_requests, verify
from ebmtrain.training.loop import StepRequest, StepResult, train_step
from ebmtrain.training.metrics import Metrics

LOG = logging.getLogger("ebmtrain")
_aten = torch.ops.aten
_EMPTY_TENSOR_OPS = (_aten.empty.memory_format, _aten.empty_like.default, _aten.new_empty.default)


class VmapTrainStep:
    """Makes updates of several runs with the same configuration, but other seeds and data.

    Updates with the same shapes are made as one. A member's first update (see `CompiledTrainStep`)
    and one whose shapes no other member has are made separately. Each graph is compared with
    `train_step` before it is used. If any of this fails, a warning says so and the members' updates
    are made one after the other. Results differ from those of separate runs by rounding.

    Args:
        compile: compile the graph; if that fails, it is used without compilation.
        cuda_graph: capture the compiled graph as a CUDA graph on an NVIDIA GPU.
        interruptible: a context for tracing and compilation, see `StopRequest.interruptible`.
    """

    def __init__(
        self,
        *,
        compile: bool,
        cuda_graph: bool = False,
        interruptible: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.compile = compile
        self.interruptible = interruptible
        self.cuda_graph = cuda_graph
        self.programs: dict[Any, Program] = {}
        self.failed = False

    @property
    def compiled(self) -> bool:
        return self.compile and not self.failed

    def __call__(self, requests: Sequence[StepRequest]) -> list[StepResult]:
        groups: dict[Any, list[int]] = {}
        for i, update in enumerate(requests):
            separate = self.failed or update.state.step == 0
            shapes = None if separate else shape_key(update)
            groups.setdefault(shapes, []).append(i)
        calls = []
        for shapes, indices in groups.items():  # all programs are built before the first update
            group = [requests[i] for i in indices]
            separate = shapes is None or len(group) == 1
            program = _run_one_by_one if separate else self.program(shapes, group)
            calls.append((program, group, indices))
        results: dict[int, StepResult] = {}
        for program, group, indices in calls:
            results |= zip(indices, program(group), strict=True)
        return [results[i] for i in range(len(requests))]

    def program(self, shapes: Any, group: Sequence[StepRequest]) -> Program:
        """The program for a group of this `shape_key`; `_run_one_by_one` if it has no graph."""
        key = shapes, len(group)
        if key not in self.programs and not self.failed:
            try:
                check_graph_count(len({shapes, *(known for known, _ in self.programs)}))
                if self.compile and not self.programs:
                    LOG.info(COMPILING_MESSAGE)
                began = time.perf_counter()
                with self.interruptible():
                    program = self._build(group)
                self.programs[key] = program
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
        return _run_one_by_one if self.failed else self.programs[key]

    def _build(self, group: Sequence[StepRequest]) -> Program:
        """The common update of a group, compared with `train_step`.

        Raises:
            Exception: of any kind, if the update cannot be traced or mapped, or differs.
        """
        update = trace_update(*group[0], table=VMAP_DECOMPOSITIONS)
        batched = _BatchedGraph(update, group)
        if self.compile:
            try:
                use_disk_cache()
                compiled = _BatchedGraph(update, group, compile=True)
                verify(compiled, group)
                if self.cuda_graph:
                    record_cuda_graph(compiled, group, recorder(group[0].state.diverged.device))
                return compiled
            except Exception as error:  # of torch or of the C++ compiler
                self.compile = False
                LOG.warning(NOT_COMPILED, reason(error))
        verify(batched, group)
        return batched


def _run_one_by_one(group: Sequence[StepRequest]) -> list[StepResult]:
    """The updates of a group, one after the other."""
    return [train_step(*update) for update in group]


class _BatchedGraph:
    """A traced update, mapped over as many members as the group has."""

    def __init__(self, update: UpdateGraph, group: Sequence[StepRequest], *, compile: bool = False):
        self.update = update
        self.rows = _MemberRows()
        examples = self.inputs(clone_requests(group))
        graph = _vmap_graph(update.graph, examples)
        self.run: TensorFunction = compile_graph(graph, examples) if compile else graph

    def __call__(self, group: Sequence[StepRequest]) -> list[StepResult]:
        update, states = self.update, [u.state for u in group]
        with torch.no_grad():
            vectors, *new = self.run(*self.inputs(group))
        for name, value in zip(update.replaced, new, strict=True):
            for state, row in zip(states, self.rows.assign(name, value), strict=True):
                state.method[name] = row
        return [(Metrics(update.metrics, row), update.points) for row in vectors.unbind()]

    def inputs(self, group: Sequence[StepRequest]) -> list[Tensor]:
        """The inputs of `trace.graph_inputs`, each with a row per member."""
        states = [u.state for u in group]
        columns = zip(*(mutable_tensors(state) for state in states), strict=True)
        kept = [self.rows.stack(i, column) for i, column in enumerate(columns)]
        batches = ([part for part in u.batch if part is not None] for u in group)
        seen = [torch.stack(parts) for parts in zip(*batches, strict=True)]
        like = next(states[0].energy.parameters())
        scalars = [
            _full_per_member(column, like)
            for column in zip(*(scalar_inputs(u.state, u.weight) for u in group), strict=True)
        ]
        for state in states:  # copies: `__call__` assigns rows to them
            state.method = dict(state.method)
        method = [self.rows.stack(k, [s.method[k] for s in states]) for k in states[0].method]
        numbers = [
            torch.stack([draw.replay(s.generator) for s in states]) for draw in self.update.draws
        ]
        return [*kept, *seen, *scalars, *method, *numbers]


class _MemberRows:
    """Tensors with a row per member, by key. The members' tensors are views of the rows: what the
    graph changes in place changes in the members."""

    def __init__(self) -> None:
        self.stacks: dict[int | str, tuple[Tensor, list[int]]] = {}

    def stack(self, key: int | str, members: Sequence[Tensor]) -> Tensor:
        """The tensor of this key. If the members' tensors are not its rows, they are moved there: a
        member that was restored from a checkpoint has new moments."""
        addresses = [tensor.data_ptr() for tensor in members]
        if key not in self.stacks or self.stacks[key][1] != addresses:
            rows = self.assign(key, torch.stack([tensor.detach() for tensor in members]))
            for tensor, row in zip(members, rows, strict=True):
                tensor.data = row
        return self.stacks[key][0]

    def assign(self, key: int | str, whole: Tensor) -> tuple[Tensor, ...]:
        """The rows of an output of the graph, which becomes the tensor of this key."""
        whole = whole.contiguous()
        rows = whole.unbind()
        self.stacks[key] = whole, [row.data_ptr() for row in rows]
        return rows


def _full_per_member(values: Sequence[float], like: Tensor) -> Tensor:
    """One number per member, filled on the device: see `trace.graph_inputs`."""

    def full(shape: tuple[int, ...], value: float) -> Tensor:
        return torch.full(shape, value, dtype=like.dtype, device=like.device)

    if len(set(values)) == 1:
        return full((len(values),), values[0])
    return torch.stack([full((), value) for value in values])


def _vmap_graph(graph: GraphModule, examples: list[Tensor]) -> GraphModule:
    """The graph with one row per member in each input and output."""
    graph = _inline_random_inputs(graph)
    with no_vmap_fallback_warnings(), torch.no_grad():
        return make_fx(vmap(graph))(*examples)


def _inline_random_inputs(graph: GraphModule) -> GraphModule:
    """Replaces an empty tensor into which random numbers are copied by these numbers: the empty
    tensor has no dimension of members."""
    for node in graph.graph.find_nodes(op="call_function", target=_aten.copy_.default):
        target, source = node.args[:2]
        if target.target in _EMPTY_TENSOR_OPS:
            node.replace_all_uses_with(source)
            target.replace_all_uses_with(source, lambda user, node=node: user is not node)
            graph.graph.erase_node(node)
            graph.graph.erase_node(target)
    graph.recompile()
    return graph
