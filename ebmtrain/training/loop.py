"""The training loop. It has no knowledge of configurations, files or figures.

`training_loop` is a generator: it yields a `StepRequest` for each update and receives its
`StepResult`. The same loop therefore serves one run (`run_to_completion`) and several whose updates
are computed as one batch (`run_interleaved`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextvars import copy_context
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from ebmtrain.errors import DivergedError
from ebmtrain.score import count_evaluations
from ebmtrain.training.divergence import MAX_ABS_ENERGY, check_divergence
from ebmtrain.training.ema import ema_update, ema_weight
from ebmtrain.training.metrics import Metrics, window_means
from ebmtrain.training.state import TrainSpec, TrainState
from ebmtrain.types import Batch, Tensors

RETRIES = 3  # of a supervised run, each at half the rate of the one before


class Callbacks(Protocol):
    """What happens beside the updates. Each is asked at every step whether it is due."""

    def evaluate(self, state: TrainState, last: bool) -> dict[str, float]: ...
    def log(self, state: TrainState, row: dict[str, float]) -> None: ...
    def plot(self, state: TrainState, last: bool) -> None: ...
    def save(self, state: TrainState, now: bool) -> None:
        """Save if one is due, or `now`: training ends here. Call `check_divergence` first."""
        ...

    def should_stop(self) -> bool:
        """True once somebody wants training to end early."""
        ...

    def restore_last_checkpoint(self, state: TrainState) -> None:
        """Puts the state that was saved last, which is good, in place of this one."""
        ...

    def on_retry(self, state: TrainState) -> None:
        """The state is the last good one, at half its rate. To be saved at once, so that a run
        that is killed now goes on like one that is not."""
        ...


class StepRequest(NamedTuple):
    """An update that is to be made: what `train_step` takes, and all that depends on the step."""

    job: TrainSpec
    state: TrainState
    batch: Batch
    weight: float | None


StepResult = tuple[Metrics, int]
"""The metrics of an update, and the energy evaluations that it took."""

_Advance = Callable[[TrainSpec, TrainState, Batch, float | None], StepResult]
"""What `train_step` does, maybe by other means."""

_T = TypeVar("_T")
StepRequests = Generator[StepRequest, StepResult, _T]
"""Something that goes on as far as the next update, and ends with a T."""


def run_to_completion(run: StepRequests[_T], advance: _Advance) -> _T:
    """Goes through with one run; `advance` makes its updates."""
    try:
        wanted = next(run)
        while True:
            try:
                made = advance(*wanted)
            except BaseException as error:  # it is the run's own, and comes up where it asked
                wanted = run.throw(error)
            else:
                wanted = run.send(made)
    except StopIteration as end:
        return end.value


def training_loop(job: TrainSpec, state: TrainState, events: Callbacks) -> StepRequests[None]:
    """Updates until `job.n_steps`, with the events between them.

    A run that is stopped early is saved where it stands and does nothing else, so that the rows
    of a resumed run are those of one that was never stopped.

    Raises:
        DivergedError: a loss, gradient or energy is not finite or beyond MAX_ABS_ENERGY, and no
            retry is left. What was saved before is good: it is checked before each save.
    """
    stopping = False
    if state.step == 0 and not state.retries:  # who went back to step 0 has been here
        run_callbacks(state, events, {}, last=job.n_steps == 0)
    while state.step < job.n_steps and not stopping:
        metrics = yield from request_step(job, state)
        last, stopping = state.step == job.n_steps, events.should_stop()
        try:
            row = collect_metrics(job, state, metrics, last=last)
            run_callbacks(state, events, row, last=last, stopping=stopping)
        except DivergedError as error:
            _retry(job, state, events, error)


def _retry(job: TrainSpec, state: TrainState, events: Callbacks, error: DivergedError) -> None:
    """Back to the last good state: weights, chains, generators, optimizer; at half its rate.

    The same batches and the same random numbers follow as before, so the rate is all that is
    different. What was counted on the way that is given up stays counted.

    Raises:
        DivergedError: `job.retries` were not enough.
    """
    if len(state.retries) >= job.retries:
        raise error
    found, spent, before = state.step, state.evaluations, state.retries
    events.restore_last_checkpoint(state)
    state.evaluations = spent
    rate = job.optimizer.lr * 0.5 ** (len(before) + 1)
    state.retries = [*before, {"step": found, "back_to": state.step, "lr": rate}]
    events.on_retry(state)


def collect_metrics(
    job: TrainSpec, state: TrainState, metrics: Metrics, *, last: bool
) -> dict[str, float]:
    """Puts an update's metrics into the window; where a row is due, the window's means."""
    state.window.setdefault(metrics.names, []).append(metrics.vector)
    if not last and state.step % job.log_every:
        return {}
    row = window_means(state.window)
    row["lr"] = state.optimizer.param_groups[0]["lr"]
    if job.retries:
        row["retries"] = float(len(state.retries))
    state.window.clear()
    check_divergence(job, state)
    return row


def run_callbacks(
    state: TrainState,
    events: Callbacks,
    row: dict[str, float],
    *,
    last: bool,
    stopping: bool = False,
) -> None:
    """All that is due at this step. The last step takes this way like any other."""
    row = row | events.evaluate(state, last)
    if row:
        events.log(state, row)
    events.plot(state, last)
    events.save(state, last or stopping)


def run_step(job: TrainSpec, state: TrainState, advance: _Advance | None = None) -> Metrics:
    """`request_step`, by itself.

    Args:
        advance: what makes it; None: `train_step`.
    """
    return run_to_completion(request_step(job, state), advance or train_step)


def request_step(job: TrainSpec, state: TrainState) -> StepRequests[Metrics]:
    """One update of the parameters; its metrics."""
    batch = job.dataset.batch(state.step, job.batch_size, job.seed)
    rate = job.optimizer.lr * job.optimizer.schedule.factor(state.step, job.n_steps)
    rate *= 0.5 ** len(state.retries)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    weight = None if job.ema is None else ema_weight(job.ema, state.step + 1)
    metrics, points = yield StepRequest(job, state, batch, weight)
    # As a resumed run has them: the same numbers in another order may be summed in another order.
    state.method = {name: value.contiguous() for name, value in state.method.items()}
    state.evaluations += points
    state.step += 1
    return metrics


class _Backward(NamedTuple):
    """What one backward pass returns."""

    parameters: list[Tensor]
    """Those that the loss depends on."""
    gradients: list[Tensor]
    """One for each of them."""
    numbers: Tensors
    """The loss and the method's metrics, shape () each, energies first."""
    evaluations: int
    """Of the energy."""


def train_step(
    job: TrainSpec, state: TrainState, batch: Batch, weight: float | Tensor | None
) -> StepResult:
    """One update on the device: backward, reduce, apply. Nothing in it waits for the device.

    Args:
        weight: of the new parameters in their average; None: no average is kept.

    Returns:
        The metrics, and the number of energy evaluations.
    """
    result = _backward(job, state, batch)
    gradient, values = _reduce(result)
    return _apply(job, state, result, gradient, values, weight), result.evaluations


def _backward(job: TrainSpec, state: TrainState, batch: Batch) -> _Backward:
    """Loss and gradient of the batch; replaces the method's state."""
    with count_evaluations(state.energy) as tally:
        loss, metrics, state.method = job.method.loss(
            state.energy, batch, state.method, state.generator
        )
    tensors = state.trainable
    gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    pairs = [(t, g) for t, g in zip(tensors, gradients, strict=True) if g is not None]
    names = sorted(metrics, key=lambda name: not name.startswith("energy"))
    numbers = {"loss": loss.detach()} | {name: metrics[name] for name in names}
    return _Backward([t for t, _ in pairs], [g for _, g in pairs], numbers, tally.points)


def _reduce(result: _Backward) -> tuple[Tensor, Tensor]:
    """The gradients and the numbers, each as one vector: the two parts of a single vector."""
    numbers = torch.stack(list(result.numbers.values()))
    flat = torch.cat([*(g.flatten() for g in result.gradients), numbers])  # of the wider type
    gradient, values = flat.split([len(flat) - len(numbers), len(numbers)])
    return gradient.to(result.gradients[0].dtype), values


def _apply(
    job: TrainSpec,
    state: TrainState,
    result: _Backward,
    gradient: Tensor,
    values: Tensor,
    weight: float | Tensor | None,
) -> Metrics:
    """Clip the gradient, move the parameters and their average, set the divergence flag.

    Args:
        gradient, values: of `_reduce`.
    """
    norm = torch.linalg.vector_norm(gradient)
    if job.optimizer.clip_norm is not None:
        gradient = gradient * (job.optimizer.clip_norm / (norm + 1e-6)).clamp(max=1.0)
    for tensor in state.trainable:
        tensor.grad = None
    parts = gradient.split([g.numel() for g in result.gradients])
    for tensor, part in zip(result.parameters, parts, strict=True):
        tensor.grad = part.view_as(tensor)
    state.optimizer.step()
    if state.ema_pairs is not None and weight is not None:
        ema_update(state.ema_pairs, weight)

    loss, *names = result.numbers
    vector = torch.cat([values[:1], norm[None], values[1:]])
    bounded = vector[: 2 + sum(name.startswith("energy") for name in names)]
    state.diverged |= ~(bounded.abs().amax() < MAX_ABS_ENERGY)  # NaN compares false: it diverged
    return Metrics((loss, "grad_norm", *names), vector)


def run_interleaved(
    runs: Sequence[StepRequests[_T]],
    advance: Callable[[Sequence[StepRequest]], list[StepResult]],
    ended: Callable[[int, _T | Exception], None],
) -> None:
    """Run all of them to completion, each in a `contextvars` context of its own.

    Args:
        advance: makes the updates that all want next. What goes wrong there, goes wrong in each.
        ended: is told the number of a run and what it returned or raised.
    """
    contexts = [copy_context() for _ in runs]
    wanted: dict[int, StepRequest] = {}

    def go_on(number: int, act: Callable[..., StepRequest], *words: Any) -> None:
        wanted.pop(number, None)
        try:
            wanted[number] = contexts[number].run(act, *words)
        except StopIteration as end:
            ended(number, end.value)
        except Exception as error:
            ended(number, error)

    try:
        for number, run in enumerate(runs):
            go_on(number, next, run)
        while wanted:
            asked = dict(wanted)
            try:
                made = advance(list(asked.values()))
            except Exception as error:
                for number in asked:
                    go_on(number, runs[number].throw, error)
            else:
                for number, one in zip(asked, made, strict=True):
                    go_on(number, runs[number].send, one)
    finally:  # a second signal, say: what they hold is let go
        for context, run in zip(contexts, runs, strict=True):
            context.run(run.close)
