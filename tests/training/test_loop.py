"""The loop: what an update does, and when each callback is called."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from same_state import differences, load, rows
from torch import nn

from ebmtrain.cli.main import main
from ebmtrain.config.build import build
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.errors import DivergedError
from ebmtrain.runs.launch import run_experiment
from ebmtrain.runtime.signals import Interruption
from ebmtrain.score import freeze
from ebmtrain.training.divergence import MAX_ABS_ENERGY, check_divergence
from ebmtrain.training.ema import ema_pairs, ema_update, ema_weight
from ebmtrain.training.loop import run_step, run_to_completion, train_step, training_loop
from ebmtrain.training.optimizers import Schedule, Sgd
from ebmtrain.training.state import TrainSpec, TrainState, initial_state
from ebmtrain.types import Batch, LossOutput


class Recorder:
    """Writes down what happens; stops after `stop_after` updates."""

    def __init__(self, stop_after: int | None = None):
        self.stop_after = stop_after
        self.asked = 0
        self.rows: dict[int, dict[str, float]] = {}
        self.eval_model: list[tuple[int, bool]] = []
        self.plotted: list[tuple[int, bool]] = []
        self.saved: list[tuple[int, bool]] = []

    def evaluate(self, state: TrainState, last: bool) -> dict[str, float]:
        self.eval_model.append((state.step, last))
        return {"kl": 1.0} if last else {}

    def log(self, state: TrainState, row: dict[str, float]) -> None:
        assert state.step not in self.rows
        self.rows[state.step] = row

    def plot(self, state: TrainState, last: bool) -> None:
        self.plotted.append((state.step, last))

    def save(self, state: TrainState, now: bool) -> None:
        self.saved.append((state.step, now))

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked == self.stop_after


class Indices:
    """Data that are their own indices, and a method that sees them go by."""

    def __init__(self, count: int = 30):
        x = torch.arange(count, dtype=torch.float32)[:, None]
        self.points = Points(x, x, standardization=fit_standardization(x, False))
        self.seen: list[int] = []

    def init(self, x, generator):
        return {}

    def loss(self, energy, batch: Batch, state, generator) -> LossOutput:
        self.seen += batch.x[:, 0].long().tolist()
        loss = energy(batch.x).mean()
        return LossOutput(loss, {"energy_data": loss.detach()}, state)


class Linear(nn.Module):
    """E(x) = w x: the gradient of the mean energy is the mean of x."""

    def __init__(self, w: float = 1.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, x):
        return self.w * x[:, 0]


def weight(energy: nn.Module) -> float:
    return float(energy.state_dict()["w"])


def spec_of(method: Indices, **changes) -> TrainSpec:
    flat = Schedule(shape="constant", warmup_steps=0)
    spec = TrainSpec(
        method=method, dataset=method.points, optimizer=Sgd(lr=0.01, momentum=0.0, schedule=flat),
        n_steps=7, batch_size=8, ema=None, log_every=3, seed=0,
    )  # fmt: skip
    return replace(spec, **changes)


class Counting(Linear):
    """Changes a buffer at each call in training, as a spectral norm does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1.0)
        return super().forward(x)


class Stochastic(Indices):
    """A method that draws random numbers and counts its updates."""

    def init(self, x, generator):
        return {"count": torch.zeros(())}

    def loss(self, energy, batch: Batch, state, generator) -> LossOutput:
        noise = torch.empty_like(batch.x).normal_(generator=generator)
        loss = energy(batch.x + noise).mean()
        return LossOutput(loss, {"energy_data": loss.detach()}, {"count": state["count"] + 1})


def train(
    spec: TrainSpec, callbacks: Recorder | None = None, energy: nn.Module | None = None
) -> tuple[TrainState, Recorder]:
    callbacks = callbacks or Recorder()
    state = initial_state(spec, energy or Linear(), torch.Generator())
    run_to_completion(training_loop(spec, state, callbacks), train_step)
    return state, callbacks
    run_to_completion(training_loop(spec, state, callbacks), train_step)
    return state, callbacks


@pytest.mark.parametrize("log_every", [1, 3, 7, 100])
def test_the_last_step_is_an_ordinary_step(log_every):
    """Evaluation, row and save happen once at the end, whether or not they were due."""
    _, callbacks = train(spec_of(Indices(), log_every=log_every))
    assert callbacks.eval_model == callbacks.plotted == callbacks.saved
    assert callbacks.saved == [(step, step == 7) for step in range(8)]
    assert sorted(callbacks.rows) == sorted({*range(log_every, 8, log_every), 7})
    assert callbacks.rows[7].keys() == {"loss", "grad_norm", "energy_data", "lr", "kl"}


def test_zero_steps_evaluate_the_initial_state():
    _, callbacks = train(spec_of(Indices(), n_steps=0))
    assert callbacks.saved == callbacks.eval_model == [(0, True)]
    assert callbacks.rows == {0: {"kl": 1.0}}


def test_a_stop_only_saves():
    state, callbacks = train(spec_of(Indices()), Recorder(stop_after=5))
    assert state.step == 5
    assert callbacks.saved[-1] == (5, True)
    assert callbacks.eval_model[-1] == callbacks.plotted[-1] == (4, False)
    assert list(callbacks.rows) == [3]
    assert state.pending == {}
    assert [len(rows) for rows in state.window.values()] == [
        2
    ]  # the updates since the last row, kept for the next


@pytest.mark.parametrize(
    ("place", "step"),
    [*product(["evaluate", "plot"], [0, 3, 7, 10]),
     *product(["update"], [0, 3, 7]), *product(["should_stop"], [3, 7, 10])],
)  # fmt: skip
def test_an_interrupted_run_continues_with_the_same_rows_and_weights(place, step, monkeypatch):
    """The callbacks of the step that was interrupted run again; its row appears once."""
    optimizer = Sgd(lr=0.1, momentum=0.0, schedule=Schedule(shape="linear", warmup_steps=3))
    spec = spec_of(Stochastic(), n_steps=10, log_every=3, optimizer=optimizer)
    state, expected = train(spec, energy=Counting())
    interrupted = Recorder()
    if place == "should_stop":
        interrupted.stop_after = step
    elif place == "update":
        loss = Stochastic.loss

        def raising(self, energy, batch, state, generator):
            found = loss(self, energy, batch, state, generator)
            if state["count"] == step:
                energy.calls.add_(100)
                raise Interruption(2)
            return found

        monkeypatch.setattr(Stochastic, "loss", raising)
    else:
        function = getattr(interrupted, place)

        def stop(state, last):
            if state.step == step:
                raise Interruption(2)
            return function(state, last)

        monkeypatch.setattr(interrupted, place, stop)
    first, _ = train(spec, interrupted, Counting())
    monkeypatch.undo()
    assert first.step == step
    assert interrupted.saved[-1] == (step, True)
    second = initial_state(spec, Counting(), torch.Generator())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    rest = Recorder()
    run_to_completion(training_loop(spec, second, rest), train_step)
    assert interrupted.rows.keys().isdisjoint(rest.rows)
    assert interrupted.rows | rest.rows == expected.rows
    assert weight(second.energy) == weight(state.energy)
    assert second.energy.calls == state.energy.calls
    assert differences(second.optimizer.state_dict(), state.optimizer.state_dict()) == []
    assert torch.equal(second.generator.get_state(), state.generator.get_state())


def test_a_row_is_the_mean_over_its_updates():
    method = Indices()
    spec = spec_of(method, log_every=3, n_steps=6)
    state = initial_state(spec, Linear(), torch.Generator())
    losses = [float(run_step(spec, state)["loss"]) for _ in range(6)]
    _, callbacks = train(spec)
    assert callbacks.rows[3]["loss"] == pytest.approx(sum(losses[:3]) / 3)
    assert callbacks.rows[6]["loss"] == pytest.approx(sum(losses[3:]) / 3)


@pytest.mark.parametrize("batch_size", [1, 7, 30])
def test_every_point_is_trained_on_once_per_epoch(batch_size):
    method = Indices()
    train(spec_of(method, batch_size=batch_size, n_steps=math.ceil(90 / batch_size)))
    for epoch in range(3):
        assert sorted(method.seen[30 * epoch : 30 * (epoch + 1)]) == list(range(30))


@pytest.mark.parametrize(("epochs", "batch", "steps"), [(1, 32, 7), (3, 32, 19), (2, 200, 2),
                                                        (0, 32, 0)])  # fmt: skip
def test_epochs_are_converted_to_steps(configured, epochs, batch, steps):
    words = ("train.steps=99", f"train.epochs={epochs}", f"train.batch_size={batch}")
    spec = build(configured("method=dsm", *words)).train_spec
    assert spec is not None
    assert spec.n_steps == steps


# One update, by hand


def test_a_step_is_gradient_descent():
    method = Indices()
    spec = spec_of(method)
    state = initial_state(spec, Linear(2.0), torch.Generator())
    mean = float(spec.dataset.batch(0, 8, 0).x.mean())
    metrics = run_step(spec, state)
    assert float(metrics["loss"]) == pytest.approx(2.0 * mean)
    assert float(metrics["grad_norm"]) == pytest.approx(mean)
    assert weight(state.energy) == pytest.approx(2.0 - 0.01 * mean)


def test_clipping_bounds_the_step_and_not_the_metric():
    spec = spec_of(Indices())
    spec = replace(spec, optimizer=replace(spec.optimizer, clip_norm=0.5))  # type: ignore[type-var]
    state = initial_state(spec, Linear(2.0), torch.Generator())
    mean = float(spec.dataset.batch(0, 8, 0).x.mean())
    assert mean > 5
    assert float(run_step(spec, state)["grad_norm"]) == pytest.approx(mean)
    assert weight(state.energy) == pytest.approx(2.0 - 0.01 * 0.5, rel=1e-5)


def test_clipping_includes_trained_constants_of_the_method():
    """The weights and what the method learns beside them make one vector: it is as long as the
    bound says, in the direction of the gradient."""

    class WithTrainedConstant(Indices):
        def init(self, x, generator):
            return {"c": torch.zeros((), requires_grad=True)}

        def loss(self, energy, batch, state, generator):
            return LossOutput(energy(batch.x).mean() + 30 * state["c"], {}, state)

    spec = spec_of(WithTrainedConstant())
    spec = replace(spec, optimizer=replace(spec.optimizer, clip_norm=0.5))  # type: ignore[type-var]
    state = initial_state(spec, Linear(2.0), torch.Generator())
    mean = float(spec.dataset.batch(0, 8, 0).x.mean())
    norm = math.hypot(mean, 30)
    assert float(run_step(spec, state)["grad_norm"]) == pytest.approx(norm)
    assert weight(state.energy) == pytest.approx(2.0 - 0.01 * 0.5 * mean / norm, rel=1e-6)
    assert float(state.method["c"].detach()) == pytest.approx(-0.01 * 0.5 * 30 / norm, rel=1e-4)


def test_small_gradients_are_not_clipped():
    spec = spec_of(Indices())
    loose = replace(spec, optimizer=replace(spec.optimizer, clip_norm=1e3))  # type: ignore
    states = [initial_state(j, Linear(2.0), torch.Generator()) for j in (spec, loose)]
    for j, state in zip((spec, loose), states, strict=True):
        run_step(j, state)
    assert weight(states[0].energy) == weight(states[1].energy)


def test_weight_average_is_its_formula():
    """average += (1 - d) (energy - average), d = min(decay, (1 + t) / (10 + t))."""
    average, energy = Linear(0.0), Linear(1.0)
    expected = 0.0
    for step in (1, 2, 50, 1000):
        ema_update(ema_pairs(average, energy), ema_weight(0.9, step))
        d = min(0.9, (1 + step) / (10 + step))
        expected += (1 - d) * (1.0 - expected)
        assert weight(average) == pytest.approx(expected, rel=1e-6)


def test_weight_average_of_a_training_is_the_formula_over_its_steps():
    spec = spec_of(Indices(), ema=0.5, n_steps=5)
    state = initial_state(spec, Linear(), torch.Generator())
    expected = 1.0
    for step in range(1, 6):
        run_step(spec, state)
        d = min(0.5, (1 + step) / (10 + step))
        expected += (1 - d) * (weight(state.energy) - expected)
    assert state.eval_model is state.average
    assert weight(state.eval_model) == pytest.approx(expected, rel=1e-6)
    assert not any(p.requires_grad for p in state.eval_model.parameters())


def test_buffers_are_copied_into_the_average():
    energy, average = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    energy(torch.randn(4, 3))  # moves the running statistics
    assert not torch.equal(average.running_mean, energy.running_mean)  # type: ignore[arg-type]
    ema_update(ema_pairs(average, energy), 0.1)
    for kept, new in zip(average.buffers(), energy.buffers(), strict=True):
        assert torch.equal(kept, new)


# Schedules


def test_schedule_values():
    cosine = Schedule(shape="cosine", warmup_steps=0, floor=0.1)
    assert cosine.factor(0, 100) == 1.0
    assert cosine.factor(50, 100) == pytest.approx(0.55)
    assert cosine.factor(100, 100) == pytest.approx(0.1)
    linear = Schedule(shape="linear", warmup_steps=0, floor=0.2)
    assert linear.factor(25, 100) == pytest.approx(0.8)
    assert linear.factor(100, 100) == pytest.approx(0.2)
    constant = Schedule(shape="constant", warmup_steps=4)
    assert [constant.factor(t, 100) for t in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_each_update_has_the_scheduled_learning_rate():
    """w falls by lr(t) * mean x at update t, so its differences show the rate."""
    schedule = Schedule(shape="linear", warmup_steps=3)
    spec = spec_of(Indices(), optimizer=Sgd(lr=0.1, momentum=0.0, schedule=schedule), log_every=1)
    state, callbacks = initial_state(spec, Linear(), torch.Generator()), Recorder()
    for step in range(7):
        before = weight(state.energy)
        mean = float(spec.dataset.batch(step, 8, 0).x.mean())
        run_step(spec, state)
        rate = (before - weight(state.energy)) / mean
        assert rate == pytest.approx(0.1 * schedule.factor(step, 7), rel=1e-4)
    _, callbacks = train(spec)
    assert [row["lr"] for row in callbacks.rows.values()] == pytest.approx(
        [0.1 * schedule.factor(step, 7) for step in range(7)]
    )


# Divergence


@pytest.mark.parametrize("value", [math.nan, math.inf, -2 * MAX_ABS_ENERGY])
@pytest.mark.parametrize("which", ["loss", "energy", "gradient"])
def test_non_finite_values_set_the_flag(which, value):
    class Broken(Indices):
        def loss(self, energy, batch, state, generator):
            loss = energy(batch.x).mean()
            metrics = {"energy_data": torch.tensor(value if which == "energy" else 0.0)}
            if which == "gradient":
                loss.register_hook(lambda g: g * value)
            return LossOutput(loss + (value if which == "loss" else 0.0), metrics, state)

    spec = spec_of(Broken())
    state = initial_state(spec, Linear(), torch.Generator())
    run_step(spec, state)
    assert bool(state.diverged)
    with torch.no_grad():
        state.energy.w.fill_(1.0)  # type: ignore[union-attr]
    with pytest.raises(DivergedError, match=r"diverged by step 1: .* lower optimizer.lr"):
        check_divergence(spec, state)


def test_the_flag_is_sticky():
    spec = spec_of(Indices())
    state = initial_state(spec, Linear(), torch.Generator())
    state.diverged.fill_(True)
    run_step(spec, state)
    assert bool(state.diverged)


def test_non_finite_weights_after_the_last_update_are_detected():
    """The flag cannot know them: they have met no data."""
    spec = spec_of(Indices())
    state = initial_state(spec, Linear(), torch.Generator())
    run_step(spec, state)
    check_divergence(spec, replace(state))  # a step is checked once
    with torch.no_grad():
        state.energy.w.fill_(1e9)  # type: ignore[union-attr]
    assert not bool(state.diverged)
    with pytest.raises(DivergedError):
        check_divergence(spec, state)


def test_a_step_is_checked_once(monkeypatch):
    """By whoever asks first; the next step again, and a restored state too."""
    spec, asked = spec_of(Indices()), []
    state = initial_state(spec, Linear(), torch.Generator())
    monkeypatch.setattr(
        "ebmtrain.training.divergence.freeze", lambda e: asked.append(e) or freeze(e)
    )
    for _ in range(3):
        check_divergence(spec, state)
    assert len(asked) == 1
    run_step(spec, state)
    saved = state.state_dict()
    check_divergence(spec, state)
    assert len(asked) == 2
    state.load_state_dict(saved)
    check_divergence(spec, state)
    assert len(asked) == 3


def test_the_divergence_check_does_not_change_the_run(configured):
    experiment = build(configured("method=pcd", "model.spectral_norm=true"))
    assert experiment.train_spec is not None
    state = initial_state(experiment.train_spec, experiment.energy, experiment.generator("train"))
    run_step(experiment.train_spec, state)
    before = copy.deepcopy(state.state_dict())
    check_divergence(experiment.train_spec, state)
    assert differences(before, state.state_dict()) == []
    assert state.energy.training


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("every", [1, 3, 10])
def test_a_diverged_run_keeps_only_finite_checkpoints(configured, tmp_path, every):
    words = ("method=pcd", "optimizer.lr=1e6", f"checkpoint.every={every}", "train.log_every=20")
    config = configured(*words)
    with pytest.raises(DivergedError):
        run_experiment(build(config), tmp_path / "run", {}, quiet=True)
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["status"] == "diverged"
    assert "training diverged" in result["error"]
    saved = sorted((tmp_path / "run/checkpoints").glob("*.pt"))
    assert {path.name for path in saved} == {"best.pt", "last.pt", "step_00000000.pt"}
    for path in saved:
        experiment = build(config)
        experiment.energy.load_state_dict(load(path)["energy"])
        x = experiment.train_spec.dataset.batch(0, 200, 0).x  # type: ignore[union-attr]
        assert experiment.energy(x).abs().max() < MAX_ABS_ENERGY
    assert all(row["step"] < 20 for row in rows(tmp_path / "run"))


@pytest.mark.usefixtures("no_pictures")
def test_divergence_has_an_exit_code(folder: Path, tiny, capsys):
    assert main([*tiny, "optimizer.lr=1e6", "hydra.run.dir=run"]) == 3
    error = capsys.readouterr().err
    assert "ebmtrain: training diverged by step" in error
    assert "Traceback" not in error
    assert "diverged" in (folder / "run/run.log").read_text()


def test_energy_evaluations_add_up(configured):
    """Two points of each of the batch (data and chain) for the loss; k steps and one start of each
    chain; a jump asks at half of the chains twice."""
    experiment = build(configured("sampler.jumps=null", "method.k=3", "train.batch_size=32"))
    assert experiment.train_spec is not None
    state = initial_state(experiment.train_spec, experiment.energy, experiment.generator("train"))
    run_step(experiment.train_spec, state)
    assert state.evaluations == 32 * (2 + 1 + 3)
    run_step(experiment.train_spec, state)
    assert state.evaluations == 2 * 32 * 6
    saved = copy.deepcopy(state.state_dict())
    fresh = initial_state(experiment.train_spec, experiment.energy, experiment.generator("train"))
    fresh.load_state_dict(saved)
    assert fresh.evaluations == 2 * 32 * 6
