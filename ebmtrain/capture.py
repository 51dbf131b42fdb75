"""An update as one graph of tensor operations, for a compiler.

The update that `train.advanced` makes is made once, on a copy, while every operation of it is
written down: chains, loss, gradient, clipping, optimizer and average. No part is told of it. The
random numbers are not drawn in the graph but go into it, so that the same generator gives the same
numbers in the same order as without a compiler, and its state can be saved.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from ebmtrain.models.perceptron_fusion import in_one_go
from ebmtrain.state import Job, TrainState, start, trained
from ebmtrain.train import advanced
from ebmtrain.types import Batch

aten = torch.ops.aten


class Draw(NamedTuple):
    """One call of a random operation with the generator of training."""

    function: Callable[..., Tensor]
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    filled: Tensor | None
    """What it fills, for shape and type; None: it makes a new tensor."""

    def again(self, generator: Generator) -> Tensor:
        if self.filled is None:
            return self.function(*self.arguments, **self.options, generator=generator)
        fresh = torch.empty_like(self.filled)  # not one for all steps: the state may hold it
        return self.function(fresh, *self.arguments, **self.options, generator=generator)


class Draws(TorchDispatchMode):
    """In here random operations are noted, or, where their results are given, take these."""

    def __init__(self, generator: Generator, given: Sequence[Tensor] | None = None):
        super().__init__()
        self.generator = generator
        self.given = given
        self.noted: list[Draw] = []

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
        self.noted.append(Draw(func, arguments, kwargs, filled))
        if self.given is None:
            return func(*args, **kwargs, generator=self.generator)
        value = self.given[len(self.noted) - 1]
        return args[0].copy_(value) if fills else value


class Captured(NamedTuple):
    """What goes into the graph is listed by `inputs`; out come the metrics' vector and the new
    tensors of the method's state. All else it changes in place."""

    graph: GraphModule
    draws: list[Draw]
    metrics: tuple[str, ...]
    """Their names."""
    replaced: list[str]
    """Names in the method's state of the tensors that come out."""
    points: int
    """Energy evaluations."""


def inputs(
    state: TrainState, batch: Batch, weight: float | None, drawn: list[Tensor]
) -> list[Tensor]:
    """In the order of the graph: what it changes, what it reads, random numbers."""
    # Filled on the device: a tensor made from a number on the host would wait for it.
    like = state.kept[0]
    scalars = [
        torch.full((), n, dtype=like.dtype, device=like.device) for n in numbers(state, weight)
    ]
    seen = [part for part in batch if part is not None]
    return [*held(state), *seen, *scalars, *state.method.values(), *drawn]


def held(state: TrainState) -> list[Tensor]:
    """What an update changes in place, beside what the method learns."""
    return [*state.kept, *state.moments, state.diverged]


def changed(update: Captured, state: TrainState) -> list[int]:
    """Which of the graph's inputs it may change in place, counted from 0: what is `held`, and of
    the method's state what does not come out anew."""
    count = len(update.graph.graph.find_nodes(op="placeholder"))
    first = count - len(update.draws) - len(state.method)
    kept = [i for i, name in enumerate(state.method, first) if name not in update.replaced]
    return [*range(len(held(state))), *kept]


def numbers(state: TrainState, weight: float | None) -> list[float]:
    """Those that depend on the step: the learning rate and the newest weight of the average."""
    rate = state.optimizer.param_groups[0]["lr"]
    return [rate] if weight is None else [rate, weight]


def duplicate(job: Job, state: TrainState) -> TrainState:
    """A state of its own with the same values."""
    generator = Generator(state.generator.device)
    twin = start(job, copy.deepcopy(state.energy), generator)
    twin.load_state_dict(copy.deepcopy(state.state_dict()))
    for mine, group in zip(twin.optimizer.param_groups, state.optimizer.param_groups, strict=True):
        mine["lr"] = group["lr"]
    return twin


def captured(
    job: Job,
    state: TrainState,
    batch: Batch,
    weight: float | None,
    table: Mapping[Any, Callable[..., Any]] | None = None,
) -> Captured:
    """The update of this state, which stays as it is. Not the first one: before it an optimizer
    has no moments.

    Args:
        table: further operations to be written down as others.

    Raises:
        Exception: of any kind, where an update cannot be written down: it asks for the value of a
            tensor, draws from torch's global random numbers, ...
    """
    trial = duplicate(job, state)
    with Draws(trial.generator) as draws:
        advanced(job, trial, batch, weight)
    twin = duplicate(job, state)
    drawn = [draw.again(twin.generator) for draw in draws.noted]
    arguments = inputs(twin, batch, weight, drawn)
    before, found = dict(twin.method), {}
    first = len(arguments) - len(drawn)  # of the random numbers; before them the method's state
    scalars = first - len(before) - len(numbers(state, weight))

    def step(*tensors: Tensor) -> tuple[Tensor, ...]:
        # The tensors are the very ones that the twin holds, and known to the tracer as such.
        for group in twin.optimizer.param_groups:
            group["lr"] = tensors[scalars]
        share: Any = None if weight is None else tensors[scalars + 1]
        with torch.enable_grad(), Draws(twin.generator, tensors[first:]):
            metrics, points = advanced(job, twin, batch, share)
        for p in trained(twin.energy, twin.method):
            p.grad = None
        replaced = [name for name in twin.method if twin.method[name] is not before.get(name)]
        found.update(metrics=metrics.names, points=points, replaced=replaced)
        return metrics.vector, *(twin.method[n].detach() for n in replaced)

    of_adam = partial(adam, together=one_count(twin.optimizer))
    known = TABLE | {
        aten._fused_adam_.tensor_lr: of_adam,
        aten._fused_adamw_.tensor_lr: partial(of_adam, decoupled=True),
    }
    graph = make_fx(step, decomposition_table=known | dict(table or {}))(*arguments)
    for node in reversed(graph.graph.nodes):
        if "profiler" in str(node.target):  # marks that torch's optimizers leave
            graph.graph.erase_node(node)
    in_one_go(graph.graph)
    graph.recompile()
    return Captured(graph, draws.noted, found["metrics"], found["replaced"], found["points"])


# What compilers do not know, or get wrong, in operations that they know.


def one_count(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all parameters have had as many updates, as they go on to have: a graph makes the
    same ones each time."""
    counts = {float(s["step"]) for s in optimizer.state.values() if s.get("step") is not None}
    return len(counts) <= 1


def adam(
    parameters: list[Tensor], gradients: list[Tensor], firsts: list[Tensor], seconds: list[Tensor],
    maxima: list[Tensor], steps: list[Tensor], *, lr: Tensor, beta1: float, beta2: float,
    weight_decay: float, eps: float, amsgrad: bool, maximize: bool, decoupled: bool = False,
    together: bool = False, **scaling: Any,
) -> None:  # fmt: skip
    """Adam's formula; torch offers it as one operation.

    Args:
        decoupled: that of AdamW.
        together: all parameters have had as many updates, and one count stands for all.
    """
    if amsgrad or maximize:
        raise ValueError("amsgrad and maximize are not written down")
    counts = steps[:1] if together else steps
    # Stacked, so that compilers keep them: else they compute each anew for each few numbers.
    known = torch.stack([
        one_less_power(beta, t.to(parameters[0])) for t in counts for beta in (beta1, beta2)
    ]).unbind()  # fmt: skip
    corrections = [*zip(known[::2], known[1::2], strict=True)] * (len(steps) // len(counts))
    each = zip(parameters, gradients, firsts, seconds, corrections, strict=True)
    for p, g, m, v, (of_first, of_second) in each:
        if weight_decay and decoupled:
            p.mul_(1 - lr * weight_decay)
        elif weight_decay:
            g = g + weight_decay * p
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).add_((1 - beta2) * (g * g))
        unbiased = (v.sqrt() / of_second.sqrt()).add_(eps)
        p.sub_(lr / of_first * m / unbiased)


def one_less_power(beta: float, t: Tensor) -> Tensor:
    """1 - beta^t, without cancellation where it is small."""
    return -torch.expm1(t * (math.log(beta) if beta else -math.inf))


def sgd(
    parameters: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], *, lr: Tensor,
    weight_decay: float, momentum: float, dampening: float, nesterov: bool, maximize: bool,
    is_first_step: bool, **scaling: Any,
) -> None:  # fmt: skip
    if maximize:
        raise ValueError("maximize is not written down")
    for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
        if weight_decay:
            g = g + weight_decay * p
        if momentum:
            b = momenta[i]
            b.copy_(g if is_first_step else momentum * b + (1 - dampening) * g)
            g = g + momentum * b if nesterov else b
        p.sub_(lr * g)


def norms(tensors: list[Tensor], order: float = 2, dtype: torch.dtype | None = None) -> Any:
    """One by one, for torch's operation for all of them has a launch of its own."""
    return [torch.linalg.vector_norm(t, order, dtype=dtype) for t in tensors]


def add(x: Tensor, y: Tensor, *, alpha: float = 1) -> Any:
    """x + alpha * y in two operations: inductor of torch 2.13 drops alpha where y is a product of
    matrices."""
    return NotImplemented if alpha == 1 else x + y * alpha


def add_(x: Tensor, y: Tensor, *, alpha: float = 1) -> Any:
    return NotImplemented if alpha == 1 else x.add_(y * alpha)


TABLE = {
    aten._fused_sgd_.tensor_lr: sgd,
    aten._foreach_norm.Scalar: norms,
    aten.add.Tensor: add,
    aten.add_.Tensor: add_,
}
