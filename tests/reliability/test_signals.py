"""Signals in every phase of a run: the state is saved, exit code 128 + n, exact resume."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import Child
from same_state import load, result, run_differences

from ebmtrain.cli.main import main
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runtime import signals
from ebmtrain.runtime.signals import StopRequest, TerminationSignal, raise_on_signals
from ebmtrain.training import loop
from ebmtrain.training.loop import StepRequests
from ebmtrain.training.state import TrainSpec, TrainState

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
LENGTH = ("train.steps=9", "evaluation.every=4", "plots.every=4", "checkpoint.every=3",
          "train.log_every=2", "hydra.run.dir=run")  # fmt: skip

# Where the signals arrive: in the first call of this function in this step. The last number is the
# step whose state is saved.
INTERRUPTED = {
    "inner chain": ("ebmtrain.samplers.mala.Mala.step", 5, 4),
    "evaluation": ("ebmtrain.runs.session.run_evaluations", 4, 4),
    "plotting": ("ebmtrain.runs.figures.RunFigures.draw_landscape", 4, 4),
}
NOT_INTERRUPTED = {
    "optimizer": ("ebmtrain.training.loop.ema_update", 5, 5),
    "saving": ("ebmtrain.runs.storage.rundir.encode", 6, 6),
    "writing": ("os.fsync", 6, 6),
}
PHASES = INTERRUPTED | NOT_INTERRUPTED
# What follows the last save: there is nothing left to save, and it may take long.
AFTER = {
    "samples": ("ebmtrain.runs.session.draw_samples", 9),
    "pictures": ("ebmtrain.runs.figures.RunFigures.draw_all", 9),
}


def send_signals_at(patch: pytest.MonkeyPatch, place: str, step: int, numbers: list[int]) -> None:
    """The process sends itself these signals when the function is called in this step."""
    owner, name = function_at(place)
    original, now, left = getattr(owner, name), [0], [*numbers]
    request_step = loop.request_step

    def counted(spec: TrainSpec, state: TrainState) -> StepRequests[dict[str, Any]]:
        now[0] = state.step + 1
        return request_step(spec, state)

    def interrupted(*words: Any, **named: Any) -> Any:
        while now[0] == step and left:
            os.kill(os.getpid(), left.pop(0))
        return original(*words, **named)

    # The updates of a copy, which are timed before the first of the run, are not counted.
    patch.setattr("ebmtrain.runs.session.cost_lines", lambda *_, **__: [])
    patch.setattr("ebmtrain.training.loop.request_step", counted)
    patch.setattr(owner, name, interrupted)


def function_at(place: str) -> tuple[Any, str]:
    from hydra.utils import get_object

    owner, _, name = place.rpartition(".")
    return get_object(owner), name


def child(
    folder: Path, words: tuple[str, ...], place: tuple[str, int], numbers: list[int]
) -> Child:
    def work() -> int:
        with pytest.MonkeyPatch.context() as patch:
            send_signals_at(patch, *place, numbers)
            return main(list(words))

    return Child(work, folder)


@pytest.fixture(scope="module")
def quick() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFigures, "draw_landscape", lambda *_: None)
        patch.setattr(RunFigures, "draw_all", lambda *_: [])
        yield


@pytest.fixture(scope="module")
def uninterrupted_run(quick, tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert main([*tiny, *LENGTH[:-1], f"hydra.run.dir={folder}/run"]) == 0
    return folder / "run"


def each_phase(phases: dict[str, Any]) -> list[tuple[str, int]]:
    """Every phase and every signal, each with some of the others: the handler is the same."""
    pairs = [(phase, SIGNALS[i % 3]) for i, phase in enumerate(phases)]
    return pairs + [(next(iter(phases)), number) for number in SIGNALS[1:]]


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "number"), each_phase(PHASES))
def test_a_signal_saves_within_one_step(uninterrupted_run, folder: Path, tiny, phase, number):
    place, step, saved_step = PHASES[phase]
    ended = child(folder, (*tiny, *LENGTH), (place, step), [number]).ended()
    assert (ended.code, ended.err) == (128 + number, "")
    told = json.loads((folder / "run/result.json").read_text())
    assert (told["status"], told["signal"]) == ("interrupted", number)
    assert told["step"] == saved_step
    assert load(folder / "run/checkpoints/last.pt")["step"] == told["step"]
    assert f"stopped at step {told['step']}, saved" in ended.out
    assert main(["resume", "run"]) == 0
    assert run_differences(uninterrupted_run, folder / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "number"), [("samples", signal.SIGINT), ("pictures", signal.SIGTERM)]
)
def test_a_signal_after_the_last_save_ends_at_once(
    uninterrupted_run, folder: Path, tiny, phase, number
):
    place, step = AFTER[phase]
    ended = child(folder, (*tiny, *LENGTH), (place, step), [number]).ended()
    assert (ended.code, ended.err) == (128 + number, "")
    told = json.loads((folder / "run/result.json").read_text())
    assert (told["status"], told["signal"], told["step"]) == ("interrupted", number, step)
    assert main(["resume", "run"]) == 0
    assert run_differences(uninterrupted_run, folder / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "second"),
    [*((p, signal.SIGINT) for p in NOT_INTERRUPTED), ("writing", signal.SIGTERM)],
)
def test_a_second_signal_leaves_at_once(uninterrupted_run, folder: Path, tiny, phase, second):
    place, step, _ = NOT_INTERRUPTED[phase]
    ended = child(folder, (*tiny, *LENGTH), (place, step), [signal.SIGINT, second]).ended()
    assert (ended.code, ended.err) == (128 + second, "")
    assert_left_at_step_3(uninterrupted_run, folder)


@pytest.mark.slow
@pytest.mark.parametrize("phase", INTERRUPTED)
def test_a_second_signal_while_the_state_is_saved(uninterrupted_run, folder: Path, tiny, phase):
    place, step, _ = INTERRUPTED[phase]

    def work() -> int:
        with pytest.MonkeyPatch.context() as patch:
            send_signals_at(patch, place, step, [signal.SIGTERM])
            send_signals_at(patch, NOT_INTERRUPTED["saving"][0], step, [signal.SIGINT])
            return main([*tiny, *LENGTH])

    ended = Child(work, folder).ended()
    assert (ended.code, ended.err) == (128 + signal.SIGINT, "")
    assert_left_at_step_3(uninterrupted_run, folder)


def assert_left_at_step_3(uninterrupted_run: Path, folder: Path) -> None:
    assert result(folder / "run")["status"] == "running"
    assert load(folder / "run/checkpoints/last.pt")["step"] == 3  # the one before
    assert not list((folder / "run").rglob(".*.pt.*"))  # nor half of the next
    assert main(["resume", "run"]) == 0
    assert run_differences(uninterrupted_run, folder / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_the_run_is_built_leaves_nothing(folder: Path, tiny, number):
    ended = child(
        folder, (*tiny, *LENGTH), ("ebmtrain.config.build.check_energy", 0), [number]
    ).ended()
    assert ended == (128 + number, "", "")
    assert not (folder / "run").exists()


@pytest.mark.slow
def test_an_interrupted_landscape_proposes_no_resume(quick, folder: Path, tiny):
    words = [w for w in tiny if not w.startswith(("model.", "train.steps"))]
    words += ["model=double_well", "train.steps=0", "hydra.run.dir=run"]
    ended = child(
        folder, tuple(words), ("ebmtrain.runs.session.draw_samples", 0), [signal.SIGTERM]
    ).ended()
    assert ended.code == 143
    assert "start it again" in ended.out
    assert "resume" not in ended.out
    assert result(folder / "run")["status"] == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["evaluate", "sample", "plot"])
def test_an_interrupted_verb_exits_with_its_signal(uninterrupted_run, folder: Path, verb):
    place = {
        "evaluate": "ebmtrain.evaluation.exact.Quadrature.__call__",
        "sample": "ebmtrain.runs.trained_run.draw_samples",
        "plot": "ebmtrain.runs.figures.RunFigures.draw_all",
    }
    before = {path: path.read_bytes() for path in uninterrupted_run.rglob("*") if path.is_file()}
    ended = child(
        folder, (verb, str(uninterrupted_run)), (place[verb], 0), [signal.SIGTERM]
    ).ended()
    assert (ended.code, ended.err) == (143, "")
    assert {
        path: path.read_bytes() for path in uninterrupted_run.rglob("*") if path.is_file()
    } == before


# Sweeps

IN_A_SWEEP = {
    "first job is built": ("ebmtrain.config.build.check_energy", 0, 0),
    "first job": ("ebmtrain.samplers.mala.Mala.step", 5, 1),
    "its end": ("ebmtrain.runs.session.draw_samples", 9, 1),
    "between": ("ebmtrain.runs.outcome.print_line", 9, 1),
    "second job is built": ("ebmtrain.config.build.check_energy", 9, 1),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "numbers"),
    [*((phase, [signal.SIGTERM]) for phase in IN_A_SWEEP), ("between", [signal.SIGINT]),
     ("first job", [signal.SIGINT] * 2), ("its end", [signal.SIGINT] * 2)],
)  # fmt: skip
def test_a_sweep_ends_with_its_signal(quick, folder: Path, tiny, phase, numbers):
    place, step, began = IN_A_SWEEP[phase]
    words = ("-m", *tiny, *LENGTH[:-1], "seed=0,1,2", "hydra.sweep.dir=sweep")
    ended = child(folder, words, (place, step), numbers).ended()
    assert ended.code == 128 + numbers[-1]
    assert "Traceback" not in ended.err
    assert len(list((folder / "sweep").glob("*/result.json"))) == began
    if began:
        assert (folder / "sweep/summary.csv").exists()
        assert f"({began} of 3 jobs" in ended.out


# The handlers themselves


def test_an_ignored_sighup_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal is None
            assert signal.getsignal(signal.SIGTERM) == stop._receive
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_former_signal_handlers_are_restored(command: Callable, number):
    before = signal.getsignal(number)
    assert command("list", "model").code == 0
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_each_signal_is_received(number):
    """Those of batch systems too: SIGUSR1 of Slurm and SGE, SIGUSR2, and SIGXCPU at the end of the
    CPU time. The first ends the run, and a second one has its default effect."""
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        pytest.skip("the tests were started with this signal ignored, by nohup")
    with StopRequest() as stop:
        os.kill(os.getpid(), number)
        assert stop.signal == number
        assert signal.getsignal(number) == before
    with pytest.raises(TerminationSignal), raise_on_signals():
        os.kill(os.getpid(), number)
