"""An update as one graph of tensor operations, for a compiler.

The update of `train_step` is run once on a copy, with every tensor operation recorded: chains,
loss, gradient, clipping, optimizer and average. Random numbers are inputs of the graph, so that the
same generator gives the same numbers in the same order as without a compiler, and its state can be
saved.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from ebmtrain.runtime.torch_private import TorchDispatchMode
from ebmtrain.training.compiled.decompositions import optimizer_decompositions
from ebmtrain.training.loop import train_step
from ebmtrain.training.state import TrainSpec, TrainState, initial_state
from ebmtrain.types import Batch


class _RandomCall(NamedTuple):
    """One call of a random operation with the generator of training."""

    function: Callable[..., Tensor]
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    filled: Tensor | None
    """An example of the tensor that it fills in place; None if it returns a new tensor."""

    def replay(self, generator: Generator) -> Tensor:
        """New random numbers by the same call."""
        if self.filled is None:
            return self.function(*self.arguments, **self.options, generator=generator)
        empty = torch.empty_like(self.filled)  # a new one each time: the state may keep it
        return self.function(empty, *self.arguments, **self.options, generator=generator)


class RandomCalls(TorchDispatchMode):
    """Records the calls of random operations within this context. With `values`, they return these
    tensors in turn instead of random numbers."""

    def __init__(self, generator: Generator, values: Sequence[Tensor] | None = None):
        super().__init__()
        self.generator = generator
        self.values = values
        self.calls: list[_RandomCall] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        if kwargs.pop("generator", None) is None:
            raise ValueError(f"{func} draws from torch's global random numbers")
        fills = func._schema.is_mutable
        arguments = args[1:] if fills else args
        if any(isinstance(value, Tensor) for value in [*arguments, *kwargs.values()]):
            raise ValueError(f"{func} draws random numbers of a distribution that is computed")
        filled = torch.empty_like(args[0], device=args[0].device) if fills else None
        self.calls.append(_RandomCall(func, arguments, kwargs, filled))
        if self.values is None:
            return func(*args, **kwargs, generator=self.generator)
        value = self.values[len(self.calls) - 1]
        return args[0].copy_(value) if fills else value


class UpdateGraph(NamedTuple):
    """The graph of one update. Its inputs are those of `graph_inputs`; its outputs are the vector
    of metrics and the new tensors of the method's state. All other results are written in place."""

    graph: GraphModule
    draws: list[_RandomCall]
    metrics: tuple[str, ...]
    """Their names."""
    replaced: list[str]
    """Names of the output tensors in the method's state."""
    points: int
    """Energy evaluations."""


def graph_inputs(
    state: TrainState, batch: Batch, weight: float | None, numbers: list[Tensor]
) -> list[Tensor]:
    """The graph's inputs in order: `mutable_tensors`, the batch, scalars, the method's state,
    random numbers."""
    # Filled on the device: a copy of a number from the host would wait for the device.
    like = state.module_tensors[0]
    scalars = [
        torch.full((), n, dtype=like.dtype, device=like.device)
        for n in scalar_inputs(state, weight)
    ]
    seen = [part for part in batch if part is not None]
    return [*mutable_tensors(state), *seen, *scalars, *state.method.values(), *numbers]


def mutable_tensors(state: TrainState) -> list[Tensor]:
    """Tensors that an update changes in place, except those of the method's state."""
    return [*state.module_tensors, *state.moments, state.diverged]


def mutated_inputs(update: UpdateGraph, state: TrainState) -> list[int]:
    """Indices of the graph's inputs that it may change in place: `mutable_tensors`, and the tensors
    of the method's state that are not among the outputs."""
    count = len(update.graph.graph.find_nodes(op="placeholder"))
    first = count - len(update.draws) - len(state.method)
    kept = [i for i, name in enumerate(state.method, first) if name not in update.replaced]
    return [*range(len(mutable_tensors(state))), *kept]


def scalar_inputs(state: TrainState, weight: float | None) -> list[float]:
    """Numbers that depend on the step: the learning rate and the weight of the average's update."""
    rate = state.optimizer.param_groups[0]["lr"]
    return [rate] if weight is None else [rate, weight]


def clone_state(spec: TrainSpec, state: TrainState) -> TrainState:
    """A copy of the state."""
    generator = Generator(state.generator.device)
    clone = initial_state(spec, copy.deepcopy(state.energy), generator)
    clone.load_state_dict(copy.deepcopy(state.state_dict()))
    return clone


def trace_update(
    spec: TrainSpec,
    state: TrainState,
    batch: Batch,
    weight: float | None,
    table: Mapping[Any, Callable[..., Any]] | None = None,
) -> UpdateGraph:
    """The graph of an update, traced on a copy of the state.

    The state must not be the initial one, in which the optimizer has no moments.

    Args:
        table: further decompositions of operations.

    Raises:
        Exception: of any kind, if the update cannot be traced: it reads the value of a tensor,
            draws from torch's global random numbers, ...
    """
    scratch = clone_state(spec, state)
    with RandomCalls(scratch.generator) as draws:
        train_step(spec, scratch, batch, weight)
    clone = clone_state(spec, state)
    numbers = [draw.replay(clone.generator) for draw in draws.calls]
    arguments = graph_inputs(clone, batch, weight, numbers)
    before, found = dict(clone.method), {}
    first = len(arguments) - len(numbers)  # of the random numbers; before them the method's state
    scalars = first - len(before) - len(scalar_inputs(state, weight))

    def step(*tensors: Tensor) -> tuple[Tensor, ...]:
        # The tensors are those of `clone`, which the tracer knows as inputs.
        for group in clone.optimizer.param_groups:
            group["lr"] = tensors[scalars]
        share: Any = None if weight is None else tensors[scalars + 1]
        with torch.enable_grad(), RandomCalls(clone.generator, tensors[first:]):
            metrics, points = train_step(spec, clone, batch, share)
        for p in clone.trainable:
            p.grad = None
        replaced = [name for name in clone.method if clone.method[name] is not before.get(name)]
        found.update(metrics=metrics.names, points=points, replaced=replaced)
        return metrics.vector, *(clone.method[n].detach() for n in replaced)

    kept = len(clone.optimizer.state)
    decompositions = optimizer_decompositions(clone.optimizer) | dict(table or {})
    graph = make_fx(step, decomposition_table=decompositions)(*arguments)
    if len(clone.optimizer.state) != kept:  # the graph would initialize its moments each time
        raise ValueError("a parameter has its first gradient in an update that is not the first")
    for node in reversed(graph.graph.nodes):
        if "profiler" in str(node.target):  # profiling marks of torch's optimizers
            graph.graph.erase_node(node)
    graph.recompile()
    return UpdateGraph(graph, draws.calls, found["metrics"], found["replaced"], found["points"])
