"""The training loop. It knows nothing of configurations, files or pictures."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from ebmtrain.errors import CheckpointError, DivergedError
from ebmtrain.optimizers import OptimizerSpec, gradient_norm
from ebmtrain.score import counted, frozen
from ebmtrain.types import Batch, Dataset, Method, Tensors

FAR = 100.0  # in units of training, where the presets expect coordinates of order 1
ENERGY_BOUND = 1e6  # |mean E| beyond which training has run away, in nats at T = 1
RETRIES = 3  # of a supervised run, each at half the rate of the one before


@dataclass(frozen=True, kw_only=True)
class Job:
    """What stays the same through training."""

    method: Method
    dataset: Dataset
    optimizer: OptimizerSpec
    n_steps: int
    batch_size: int
    ema: float | None
    log_every: int
    seed: int
    retries: int = 0
    """How often a run that diverges goes back to its last good state; see `retry`."""


@dataclass(kw_only=True)
class TrainState:
    """Everything that changes: what a checkpoint holds, and nothing that it could derive."""

    step: int
    energy: nn.Module
    average: nn.Module | None
    """The exponential moving average of `energy`, if one is kept."""
    optimizer: torch.optim.Optimizer
    method: Tensors
    generator: Generator
    window: dict[tuple[str, ...], list[Tensor]]
    """One vector of metrics per update since the last row, by their names, which a resumed run
    may change: a row is their mean, whether or not the run was stopped between."""
    evaluations: int
    """Of the energy, in all updates so far: see `score.counted`."""
    retries: list[dict[str, Any]]
    """One of {"step", "back_to", "lr"} per time that training diverged and went back."""
    diverged: Tensor
    """Shape (), bool, sticky: set on the device, read at log time and before a save only."""

    @property
    def evaluated(self) -> nn.Module:
        """The weights that are shown to the user: the average where one is kept."""
        return self.energy if self.average is None else self.average

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "energy": self.energy.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": {name: value.detach() for name, value in self.method.items()},
            "generator": self.generator.get_state(),
            "evaluations": self.evaluations,
            "retries": [dict(retry) for retry in self.retries],
            "window": [(list(names), torch.stack(rows)) for names, rows in self.window.items()],
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """
        Raises:
            CheckpointError: it is of a run with another model, method or optimizer.
        """
        try:
            same_kinds(self.energy.state_dict(), saved["energy"])
            self.energy.load_state_dict(saved["energy"])
            if (self.average is None) != (saved["average"] is None):
                raise ValueError("one of the two keeps an average of the weights, the other none")
            if self.average is not None:
                same_kinds(self.average.state_dict(), saved["average"])
                self.average.load_state_dict(saved["average"])
            self.load_optimizer(saved["optimizer"])
            shapes, saved_shapes = shapes_of(self.method), shapes_of(saved["method"])
            if shapes != saved_shapes:
                raise ValueError(f"the method keeps {shapes}, not {saved_shapes}")
            same_kinds(self.method, saved["method"])
            for name, value in saved["method"].items():
                if self.method[name].requires_grad:  # the optimizer holds this very tensor
                    self.method[name].data.copy_(value)
                else:
                    self.method[name] = value.to(self.method[name])
            if saved["generator"].shape != self.generator.get_state().shape:
                raise ValueError("its random numbers are those of another kind of device")
            self.generator.set_state(saved["generator"])
            like = next(self.energy.parameters())
            self.window = {tuple(names): list(rows.to(like)) for names, rows in saved["window"]}
            self.step, self.evaluations = saved["step"], saved["evaluations"]
            self.retries = [dict(retry) for retry in saved["retries"]]
            self.diverged.zero_()  # it was looked at before the state was saved
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError,
                IndexError) as error:  # fmt: skip
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"the checkpoint does not fit the configuration ({reason}): resume with the "
                "model, method, optimizer, train.ema and device that it was made with"
            ) from error

    def load_optimizer(self, saved: dict[str, Any]) -> None:
        """Its moments; everything else of it stays as it is configured now."""
        groups = self.optimizer.state_dict()["param_groups"]
        for group, mine in zip(saved["param_groups"], groups, strict=True):
            if set(group) != set(mine):
                raise ValueError("it is of another optimizer")
            if group["params"] != mine["params"]:  # torch would hand out the moments by them
                raise ValueError("its optimizer has the parameters in another order")
        parameters = dict(enumerate(p for g in self.optimizer.param_groups for p in g["params"]))
        for index, moments in saved["state"].items():
            # torch does not look, and its fused kernels would write beyond a moment that is short.
            fit = {"step": ()}  # all others are of the parameter's shape
            shape = tuple(parameters[index].shape)
            if any(v is not None and tuple(v.shape) != fit.get(name, shape)
                   for name, v in moments.items()):  # fmt: skip
                raise ValueError(f"the optimizer's moments of parameter {index} do not fit it")
        self.optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})


def shapes_of(state: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def same_kinds(wanted: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Floats for floats of any length, since a run may go on in another type; else the very type.

    Raises:
        ValueError: they are not; to be called where names and shapes are compared as well.
    """
    for name in wanted.keys() & saved.keys():
        one, two = wanted[name].dtype, saved[name].dtype
        if one != two and not (one.is_floating_point and two.is_floating_point):
            raise ValueError(f"{name} is of {two}, not of {one}")


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


class Advance(Protocol):
    """What `advanced` does, done by other means."""

    def __call__(
        self, job: Job, state: TrainState, batch: Batch, weight: float | None
    ) -> tuple[dict[str, Tensor], int]: ...


def start(job: Job, energy: nn.Module, generator: Generator) -> TrainState:
    """The state before the first update.

    Args:
        energy: on its device, in its type; trained in place.
        generator: of all draws that training makes, on the same device.
    """
    like = job.dataset.batch(0, 1, job.seed).x
    x = job.dataset.standardization.to_standard(job.dataset.train).to(like)
    method = job.method.init(x, generator)
    return TrainState(
        step=0,
        energy=energy,
        average=None if job.ema is None else copy.deepcopy(energy).requires_grad_(False),
        optimizer=job.optimizer.build(trained(energy, method)),
        method=method,
        generator=generator,
        window={},
        evaluations=0,
        retries=[],
        diverged=torch.zeros((), dtype=torch.bool, device=x.device),
    )


def trained(energy: nn.Module, method: Tensors) -> list[Tensor]:
    """What the optimizer moves: the parameters, and what the method learns beside them."""
    return [*energy.parameters(), *(value for value in method.values() if value.requires_grad)]


def train(job: Job, state: TrainState, events: Events, advance: Advance | None = None) -> None:
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
        metrics = update(job, state, advance)
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


def collect(
    job: Job, state: TrainState, metrics: dict[str, Tensor], *, last: bool
) -> dict[str, float]:
    """Puts an update's metrics into the window; where a row is due, the window's means."""
    vector = torch.stack(list(metrics.values()))  # a copy: the method may own these tensors
    state.window.setdefault(tuple(metrics), []).append(vector)
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
        remedy = "lower optimizer.lr, set model.base_std, or raise method.energy_regularization"
        if x.abs().amax() > FAR:
            remedy = f"its data reach {x.abs().amax():.3g}: dataset.standardize=true, or {remedy}"
        if not job.retries:
            remedy += "; or supervisor=retry"
        times = f" after {len(state.retries)} retries" if state.retries else ""
        raise DivergedError(
            f"training diverged by step {state.step}{times}: a loss, gradient or energy is not "
            f"finite or beyond {ENERGY_BOUND:g}; {remedy}"
        )


def update(job: Job, state: TrainState, advance: Advance | None = None) -> dict[str, Tensor]:
    """One update of the parameters; its metrics, detached, of shape (), left on the device.

    Args:
        advance: what does it, given all that depends on the number of the step; None: `advanced`.
    """
    batch = job.dataset.batch(state.step, job.batch_size, job.seed)
    rate = job.optimizer.lr * job.optimizer.schedule.factor(state.step, job.n_steps)
    rate *= 0.5 ** len(state.retries)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    weight = None if job.ema is None else newest_weight(job.ema, state.step + 1)
    metrics, points = (advance or advanced)(job, state, batch, weight)
    # As a resumed run has them: the same numbers in another order may be summed in another order.
    state.method = {name: value.contiguous() for name, value in state.method.items()}
    state.evaluations += points
    state.step += 1
    return metrics


def advanced(
    job: Job, state: TrainState, batch: Batch, weight: float | Tensor | None
) -> tuple[dict[str, Tensor], int]:
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
    return {"loss": loss, "grad_norm": norm, **metrics}, tally.points


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
