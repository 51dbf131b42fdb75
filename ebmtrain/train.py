"""The training loop. It knows nothing of configurations, files or pictures.

It is a generator: it yields each update that it wants to be made and is sent what came of it. So
one loop serves a run by itself (`alone`) and many side by side, whose updates are made as one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ebmtrain.errors import DivergedError
from ebmtrain.optimizers import gradient_norm
from ebmtrain.score import counted, frozen
from ebmtrain.state import Job, TrainState, trained
from ebmtrain.types import Batch

FAR = 100.0  # in units of training, where the presets expect coordinates of order 1
ENERGY_BOUND = 1e6  # |mean E| beyond which training has run away, in nats at T = 1
RETRIES = 3  # of a supervised run, each at half the rate of the one before


class Events(Protocol):
    """What happens beside the updates. Each is asked at every step whether it is due."""

    def evaluate(self, state: TrainState, last: bool) -> dict[str, float]: ...
    def log(self, state: TrainState, row: dict[str, float]) -> None: ...
    def plot(self, state: TrainState, last: bool) -> None: ...
    def save(self, state: TrainState, now: bool) -> None:
        """`now`: whatever its period is, since training ends here. To be preceded by `check`."""
        ...

    def stopping(self) -> bool:
        """True once somebody wants training to end early."""
        ...

    def go_back(self, state: TrainState) -> None:
        """Puts the state that was saved last, which is good, in place of this one."""
        ...

    def retried(self, state: TrainState) -> None:
        """The state is the last good one, at half its rate. To be saved at once, so that a run
        that is killed now goes on like one that is not."""
        ...


class Update(NamedTuple):
    """An update that is to be made: what `advanced` takes, and all that depends on the step."""

    job: Job
    state: TrainState
    batch: Batch
    weight: float | None


class Metrics(Mapping[str, Tensor]):
    """Of an update: numbers by name, of shape () each, detached and left on the device as one
    vector, for that is how rows of them are averaged."""

    def __init__(self, names: tuple[str, ...], vector: Tensor):
        self.names = names
        self.vector = vector

    @classmethod
    def of(cls, numbers: Mapping[str, Tensor]) -> Metrics:
        """Copies: the method may own these tensors."""
        return cls(tuple(numbers), torch.stack(list(numbers.values())))

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        return self.vector[self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


Made = tuple[Metrics, int]
"""The metrics of an update, and the energy evaluations that it took."""
Advance = Callable[[Job, TrainState, Batch, float | None], Made]
"""What `advanced` does, maybe by other means."""
T = TypeVar("T")
Updates = Generator[Update, Made, T]
"""Something that goes on as far as the next update, and ends with a T."""


def alone(run: Updates[T], advance: Advance) -> T:
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


def training(job: Job, state: TrainState, events: Events) -> Updates[None]:
    """Updates until `job.n_steps`, with the events between them.

    A run that is stopped early is saved where it stands and does nothing else, so that the rows
    of a resumed run are those of one that was never stopped.

    Raises:
        DivergedError: a loss, gradient or energy is not finite or beyond ENERGY_BOUND, and no
            retry is left. What was saved before is good: it is checked before each save.
    """
    stopping = False
    if state.step == 0 and not state.retries:  # who went back to step 0 has been here
        happen(state, events, {}, last=job.n_steps == 0)
    while state.step < job.n_steps and not stopping:
        metrics = yield from updating(job, state)
        last, stopping = state.step == job.n_steps, events.stopping()
        try:
            row = collect(job, state, metrics, last=last)
            happen(state, events, row, last=last, stopping=stopping)
        except DivergedError as error:
            retry(job, state, events, error)


def retry(job: Job, state: TrainState, events: Events, error: DivergedError) -> None:
    """Back to the last good state: weights, chains, generators, optimizer; at half its rate.

    The same batches and the same random numbers follow as before, so the rate is all that is
    different. What was counted on the way that is given up stays counted.

    Raises:
        DivergedError: `job.retries` were not enough.
    """
    if len(state.retries) >= job.retries:
        raise error
    found, spent, before = state.step, state.evaluations, state.retries
    events.go_back(state)
    state.evaluations = spent
    rate = job.optimizer.lr * 0.5 ** (len(before) + 1)
    state.retries = [*before, {"step": found, "back_to": state.step, "lr": rate}]
    events.retried(state)


def collect(job: Job, state: TrainState, metrics: Metrics, *, last: bool) -> dict[str, float]:
    """Puts an update's metrics into the window; where a row is due, the window's means."""
    state.window.setdefault(metrics.names, []).append(metrics.vector)
    if not last and state.step % job.log_every:
        return {}
    row = means(state.window)
    row["lr"] = state.optimizer.param_groups[0]["lr"]
    if job.retries:
        row["retries"] = float(len(state.retries))
    state.window.clear()
    check(job, state)
    return row


def means(window: dict[tuple[str, ...], list[Tensor]]) -> dict[str, float]:
    """Of each metric over the updates that had it. Waits for the device once."""
    columns: dict[str, list[Tensor]] = {}
    for names, rows in window.items():
        for name, column in zip(names, torch.stack(rows).T, strict=True):
            columns.setdefault(name, []).append(column)
    values = torch.stack([torch.cat(parts).mean() for parts in columns.values()])
    return dict(zip(columns, values.tolist(), strict=True))


def happen(
    state: TrainState, events: Events, row: dict[str, float], *, last: bool, stopping: bool = False
) -> None:
    """All that is due at this step. The last step takes this way like any other."""
    row = row | events.evaluate(state, last)
    if row:
        events.log(state, row)
    events.plot(state, last)
    events.save(state, last or stopping)


def check(job: Job, state: TrainState) -> None:
    """Raises DivergedError if the flag is set, or would be by the next update: weights that the
    last one has blown up have met no data yet. Waits for the device."""
    x = job.dataset.batch(state.step, job.batch_size, job.seed).x
    with frozen(state.energy), torch.no_grad():
        sound = state.energy(x).mean().abs() < ENERGY_BOUND  # NaN compares false
    if state.diverged | ~sound:
        remedy = "lower optimizer.lr, or set model.base_std"
        if hasattr(job.method, "energy_regularization"):
            remedy = "lower optimizer.lr, set model.base_std, or raise method.energy_regularization"
        reach = x.abs().nan_to_num(0.0).amax()  # NaN: a step that is not there
        if reach > FAR:
            remedy = f"its data reach {reach:.3g}: dataset.standardize=true, or {remedy}"
        if not job.retries:
            remedy += "; or supervisor=retry"
        times = f" after {len(state.retries)} retries" if state.retries else ""
        raise DivergedError(
            f"training diverged by step {state.step}{times}: a loss, gradient or energy is not "
            f"finite or beyond {ENERGY_BOUND:g}; {remedy}"
        )


def update(job: Job, state: TrainState, advance: Advance | None = None) -> Metrics:
    """`updating`, by itself.

    Args:
        advance: what makes it; None: `advanced`.
    """
    return alone(updating(job, state), advance or advanced)


def updating(job: Job, state: TrainState) -> Updates[Metrics]:
    """One update of the parameters; its metrics."""
    batch = job.dataset.batch(state.step, job.batch_size, job.seed)
    rate = job.optimizer.lr * job.optimizer.schedule.factor(state.step, job.n_steps)
    rate *= 0.5 ** len(state.retries)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    weight = None if job.ema is None else newest_weight(job.ema, state.step + 1)
    metrics, points = yield Update(job, state, batch, weight)
    # As a resumed run has them: the same numbers in another order may be summed in another order.
    state.method = {name: value.contiguous() for name, value in state.method.items()}
    state.evaluations += points
    state.step += 1
    return metrics


def advanced(job: Job, state: TrainState, batch: Batch, weight: float | Tensor | None) -> Made:
    """The update itself, on the device alone: loss, gradient, clipping, optimizer, average, flag.

    Args:
        weight: of the new parameters in their average; None: none is kept.

    Returns:
        The metrics, and the energy evaluations that they took.
    """
    with counted(state.energy) as tally:
        loss, metrics, state.method = job.method.loss(
            state.energy, batch, state.method, state.generator
        )
    state.optimizer.zero_grad()
    loss.backward()
    parameters = trained(state.energy, state.method)
    norm = gradient_norm(parameters)
    if job.optimizer.clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, job.optimizer.clip_norm, norm)
    state.optimizer.step()
    if state.average is not None and weight is not None:
        follow(state.average, state.energy, weight)

    loss = loss.detach()
    size = torch.stack([loss, norm, *(v for k, v in metrics.items() if k.startswith("energy"))])
    state.diverged |= ~(size.abs().amax() < ENERGY_BOUND)  # NaN compares false: it diverged
    return Metrics.of({"loss": loss, "grad_norm": norm, **metrics}), tally.points


def newest_weight(decay: float, step: int) -> float:
    """1 - d with d = min(decay, (1 + t) / (10 + t)), t counted from 1: the smaller d of the first
    steps lets the average forget the initial weights."""
    return 1 - min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def follow(average: nn.Module, energy: nn.Module, weight: float | Tensor) -> None:
    """average += weight * (energy - average). Buffers (say, of a spectral norm) are copied."""
    for kept, new in zip(average.parameters(), energy.parameters(), strict=True):
        kept.lerp_(new, weight)
    for kept, new in zip(average.buffers(), energy.buffers(), strict=True):
        kept.copy_(new)
