"""The training loop. It has no knowledge of configurations, files or figures.

`training_loop` is a generator: it yields a `StepRequest` for each update and receives its
`StepResult`. The same loop therefore serves one run (`run_to_completion`) and several whose updates
are computed as one batch (`run_interleaved`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Generator as Coroutine
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Generator, Tensor

from ebmtrain.errors import DivergedError
from ebmtrain.runtime.signals import Interruption, interruptible
from ebmtrain.score import attached_gradient, count_evaluations
from ebmtrain.training.divergence import MAX_ABS_ENERGY, check_divergence
from ebmtrain.training.ema import ema_update, ema_weight
from ebmtrain.training.metrics import Metrics, window_means
from ebmtrain.training.shards import merge, split
from ebmtrain.training.state import TrainSpec, TrainState
from ebmtrain.types import Batch, Placement, Tensors

RETRIES = 3  # of a supervised run, each at half the learning rate of the one before


class Callbacks(Protocol):
    """What a run does between updates, called at every step; each checks whether it is due."""

    def evaluate(self, state: TrainState, last: bool) -> dict[str, float]: ...
    def log(self, state: TrainState, row: dict[str, float]) -> None: ...
    def plot(self, state: TrainState, last: bool) -> None: ...
    def save(self, state: TrainState, now: bool) -> None:
        """Save if a checkpoint is due, or `now`. Call `check_divergence` first."""
        ...

    def should_stop(self) -> bool:
        """Whether training is to end early."""
        ...

    def restore_last_checkpoint(self, state: TrainState) -> None:
        """Load the last checkpoint, which is known to be good, into this state."""
        ...

    def on_retry(self, state: TrainState) -> None:
        """Called after `restore_last_checkpoint` with half the rate set. The state must be saved at
        once: a run that is killed now then resumes like one that is not."""
        ...


class StepRequest(NamedTuple):
    """The arguments of `train_step` for one update."""

    spec: TrainSpec
    state: TrainState
    batch: Batch
    weight: float | None


StepResult = tuple[Metrics, int]
"""The metrics of an update, and its number of energy evaluations."""

_StepFunction = Callable[[TrainSpec, TrainState, Batch, float | None], StepResult]
"""`train_step` or its compiled form."""

_T = TypeVar("_T")
StepRequests = Coroutine[StepRequest, StepResult, _T]
"""A generator that yields at each update and returns a T."""


def run_to_completion(run: StepRequests[_T], step: _StepFunction) -> _T:
    """The return value of one run, whose updates `step` computes."""
    try:
        request = next(run)
        while True:
            try:
                result = step(*request)
            except BaseException as error:  # raised in the run, where it requested the update
                request = run.throw(error)
            else:
                request = run.send(result)
    except StopIteration as end:
        return end.value


def training_loop(spec: TrainSpec, state: TrainState, callbacks: Callbacks) -> StepRequests[None]:
    """Updates until `spec.n_steps`, with the callbacks after each of them and before the first.

    A run that is stopped early saves its state and does nothing else. If the callbacks of its last
    step have not run, they run when it is resumed: `state.pending`. A resumed run therefore logs
    the same rows as one that was never stopped.

    Raises:
        DivergedError: a loss, gradient or energy is not finite or beyond MAX_ABS_ENERGY, and no
            retry is left. Earlier checkpoints are good: the state is checked before each save.
    """
    stopping = False
    while True:
        last = state.step == spec.n_steps
        try:
            if stopping:
                callbacks.save(state, True)
                return
            if state.pending is not None:
                run_callbacks(state, callbacks, state.pending, last=last)
            if last:
                return
            metrics = yield from request_step(spec, state)
            stopping = callbacks.should_stop()
            last = state.step == spec.n_steps
            state.pending = collect_metrics(spec, state, metrics, last=last)
        except Interruption:
            stopping = True
        except DivergedError as error:
            _retry(spec, state, callbacks, error)


def _retry(spec: TrainSpec, state: TrainState, callbacks: Callbacks, error: DivergedError) -> None:
    """Restore the last checkpoint (weights, chains, generators, optimizer) at half its rate.

    The same batches and random numbers follow as before; only the rate differs. Energy evaluations
    of the discarded updates stay counted.

    Raises:
        DivergedError: `spec.retries` were not enough.
    """
    if len(state.retries) >= spec.retries:
        raise error
    found, spent, before = state.step, state.evaluations, state.retries
    callbacks.restore_last_checkpoint(state)
    state.evaluations = spent
    rate = spec.optimizer.lr * 0.5 ** (len(before) + 1)
    state.retries = [*before, {"step": found, "back_to": state.step, "lr": rate}]
    callbacks.on_retry(state)


def collect_metrics(
    spec: TrainSpec, state: TrainState, metrics: Metrics, *, last: bool
) -> dict[str, float]:
    """Add an update's metrics to the window; the window's means if a row is due, else {}."""
    state.window.setdefault(metrics.names, []).append(metrics.vector)
    if not last and state.step % spec.log_every:
        return {}
    row = window_means(state.window)
    row["lr"] = state.optimizer.param_groups[0]["lr"]
    if spec.retries:
        row["retries"] = float(len(state.retries))
    state.window.clear()
    check_divergence(spec, state)
    return row


def run_callbacks(
    state: TrainState, callbacks: Callbacks, row: dict[str, float], *, last: bool
) -> None:
    """Call each callback for this step, the last step included.

    Evaluations and figures come first: they may be interrupted and then run again.
    """
    row = row | callbacks.evaluate(state, last)
    callbacks.plot(state, last)
    if row:
        callbacks.log(state, row)
    state.pending = None
    callbacks.save(state, last)


def run_step(spec: TrainSpec, state: TrainState, step: _StepFunction | None = None) -> Metrics:
    """One update outside of a loop; its metrics.

    Args:
        step: computes it; None: `train_step`.
    """
    return run_to_completion(request_step(spec, state), step or train_step)


def request_step(spec: TrainSpec, state: TrainState) -> StepRequests[Metrics]:
    """Request one update with its batch, learning rate and average's weight; its metrics.

    Raises:
        Interruption: a signal stopped the update; the state is that before it.
    """
    batch = spec.dataset.batch(state.step, spec.batch_size, spec.seed)
    rate = spec.optimizer.lr * spec.optimizer.schedule.factor(state.step, spec.n_steps)
    rate *= 0.5 ** len(state.retries)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    weight = None if spec.ema is None else ema_weight(spec.ema, state.step + 1)
    before = state.snapshot()
    try:
        metrics, points = yield StepRequest(spec, state, batch, weight)
    except Interruption:
        state.restore(before)
        raise
    # A checkpoint stores them contiguous, and another memory layout may be summed in another order.
    state.method = {name: value.contiguous() for name, value in state.method.items()}
    state.evaluations += points
    state.step += 1
    return metrics


class _Backward(NamedTuple):
    """What one backward pass returns."""

    parameters: list[Tensor]
    """Those that the loss depends on."""
    gradient: Tensor
    """In these parameters, flattened and concatenated."""
    numbers: Tensors
    """The loss and the method's metrics, shape () each, energies first."""
    method: Tensors
    """The method's state after it."""
    evaluations: int
    """Of the energy."""


def train_step(
    spec: TrainSpec, state: TrainState, batch: Batch, weight: float | Tensor | None
) -> StepResult:
    """One update on the device: backward, reduce, apply. Nothing in it waits for the device.

    Args:
        batch: of all shards.
        weight: of the new parameters in their average; None: no average is kept.

    Returns:
        The metrics, and the number of energy evaluations, of all shards.
    """
    results = _backward_shards(spec, state, batch)
    gradient, values = _reduce(spec, state, results)
    metrics = _apply(spec, state, results[0], gradient, values, weight)
    return metrics, results[0].evaluations * spec.shards.total


def _backward_shards(spec: TrainSpec, state: TrainState, batch: Batch) -> list[_Backward]:
    """Loss and gradient of each shard of this process."""
    shards = spec.shards
    methods = split(state.method, state.schema, len(shards.held))
    before = state.copy_buffers() if len(methods) > 1 else {}
    results = []
    for number, method, generator in zip(shards.held, methods, state.generators, strict=True):
        if results:
            state.restore_buffers(before)  # each shard starts with the same ones
        results.append(_backward(spec, state, shards.part(batch, number), method, generator))
    return results


def _backward(
    spec: TrainSpec, state: TrainState, batch: Batch, before: Tensors, generator: Generator
) -> _Backward:
    """Loss and gradient of a batch. A signal interrupts it, unless other processes wait for it.

    Args:
        before: the method's state.
    """
    tensors = state.trainable
    waited_for = spec.shards.team is not None
    with nullcontext() if waited_for else interruptible(), count_evaluations(state.energy) as tally:
        loss, metrics, method = spec.method.loss(state.energy, batch, before, generator)
        gradient = attached_gradient(loss, tensors)
        if gradient is None:
            found = torch.autograd.grad(loss, tensors, allow_unused=True)
            pairs = [(t, g) for t, g in zip(tensors, found, strict=True) if g is not None]
            tensors = [t for t, _ in pairs]
            gradient = torch.cat([g.flatten() for _, g in pairs])
    names = sorted(metrics, key=lambda name: not name.startswith("energy"))
    numbers = {"loss": loss.detach()} | {name: metrics[name] for name in names}
    return _Backward(tensors, gradient, numbers, method, tally.points)


def _reduce(
    spec: TrainSpec, state: TrainState, results: Sequence[_Backward]
) -> tuple[Tensor, Tensor]:
    """The gradient and the numbers of the whole batch, each as one vector; replaces the method's
    state. Of several shards these are means, as is what the method replicates and has changed."""
    first = results[0]
    if spec.shards.total == 1:
        state.method = first.method
        return first.gradient, torch.stack(list(first.numbers.values()))
    before, kind = state.method, first.gradient.dtype
    shared = [
        name for name, value in first.method.items()
        if state.schema.get(name) is Placement.REPLICATED and value is not before[name]
    ]  # fmt: skip
    rows = []
    for result in results:
        numbers = torch.stack(list(result.numbers.values()))
        replicated = [result.method[name].detach().flatten().to(kind) for name in shared]
        diverged = _unbounded(numbers[: 1 + _energies(result)])
        rows.append(torch.cat([result.gradient, numbers, *replicated, diverged[None].to(kind)]))
    whole = spec.shards.sum(torch.stack(rows)) / spec.shards.total
    sizes = [len(first.gradient), len(first.numbers)]
    sizes += [first.method[name].numel() for name in shared]
    gradient, values, *means, diverged = whole.split([*sizes, 1])
    state.method = merge([result.method for result in results], state.schema)
    for name, mean in zip(shared, means, strict=True):
        state.method[name] = mean.view_as(first.method[name]).to(first.method[name])
    state.diverged |= diverged[0] > 0  # of any shard, whatever the mean
    return gradient, values


def _energies(result: _Backward) -> int:
    """How many of the metrics are energies; they come first."""
    return sum(name.startswith("energy") for name in result.numbers)


def _unbounded(values: Tensor) -> Tensor:
    """Whether one of these is not finite or beyond its bound, shape ()."""
    return ~(values.abs().amax() < MAX_ABS_ENERGY)  # NaN compares false: it diverged


def _apply(
    spec: TrainSpec,
    state: TrainState,
    result: _Backward,
    gradient: Tensor,
    values: Tensor,
    weight: float | Tensor | None,
) -> Metrics:
    """Clip the gradient, move the parameters and their average, set the divergence flag.

    Args:
        result: of any shard, for the names.
        gradient, values: of `_reduce`.
    """
    norm = torch.linalg.vector_norm(gradient)
    if spec.optimizer.clip_norm is not None:
        gradient = gradient * (spec.optimizer.clip_norm / (norm + 1e-6)).clamp(max=1.0)
    for tensor in state.trainable:
        tensor.grad = None
    parts = gradient.split([tensor.numel() for tensor in result.parameters])
    for tensor, part in zip(result.parameters, parts, strict=True):
        tensor.grad = part.view_as(tensor)
    state.optimizer.step()
    if state.ema_pairs is not None and weight is not None:
        ema_update(state.ema_pairs, weight)

    loss, *names = result.numbers
    vector = torch.cat([values[:1], norm[None], values[1:]])
    state.diverged |= _unbounded(vector[: 2 + _energies(result)])
    return Metrics((loss, "grad_norm", *names), vector)


def run_interleaved(
    runs: Sequence[StepRequests[_T]],
    step: Callable[[Sequence[StepRequest]], list[StepResult]],
    ended: Callable[[int, _T | Exception], None],
) -> None:
    """Run all of them to completion, each in a `contextvars` context of its own.

    Args:
        step: computes one update of each run that is not at its end. If it raises, each of these
            runs does; an `Interruption` only before the first of these updates.
        ended: called with the number of a run and what it returned or raised.
    """
    contexts = [copy_context() for _ in runs]
    requests: dict[int, StepRequest] = {}

    def resume(number: int, method: Callable[..., StepRequest], *arguments: Any) -> None:
        requests.pop(number, None)
        try:
            requests[number] = contexts[number].run(method, *arguments)
        except StopIteration as end:
            ended(number, end.value)
        except Exception as error:
            ended(number, error)

    try:
        for number, run in enumerate(runs):
            resume(number, next, run)
        while requests:
            current = dict(requests)
            try:
                results = step(list(current.values()))
            except (Exception, Interruption) as error:
                for number in current:
                    resume(number, runs[number].throw, error)
            else:
                for number, result in zip(current, results, strict=True):
                    resume(number, runs[number].send, result)
    finally:  # also after a second signal: each run releases what it holds
        for context, run in zip(contexts, runs, strict=True):
            context.run(run.close)
