"""Starts and resumes runs: from an experiment to a complete run directory."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ebmtrain.config.build import build
from ebmtrain.config.experiment import Experiment
from ebmtrain.config.trust import Trust, trust_flags
from ebmtrain.config.validate import validate
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.errors import CheckpointError, ConfigError, DivergedError
from ebmtrain.runs.console import LOG, RunConsole
from ebmtrain.runs.provenance import run_info
from ebmtrain.runs.result import run_result
from ebmtrain.runs.session import Session, Stepper
from ebmtrain.runs.storage.atomic_io import lock_directory
from ebmtrain.runs.storage.checkpoint_schema import Checkpoint, validate_state
from ebmtrain.runs.storage.rundir import RunDir, check_files
from ebmtrain.runs.summary import closing_lines, opening_lines, run_title
from ebmtrain.runtime import native
from ebmtrain.runtime.signals import StopRequest
from ebmtrain.training.compiled.inductor import CompiledTrainStep, select
from ebmtrain.training.loop import (
    StepRequests,
    collect_metrics,
    run_step,
    run_to_completion,
    train_step,
)
from ebmtrain.training.state import initial_state


def run_experiment(
    experiment: Experiment,
    path: Path,
    choices: dict[str, str],
    *,
    quiet: bool = False,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """A new run in `path`; returns its result.

    Args:
        command: for run.json; None: the arguments of this process.
    """
    stepper = _choose_stepper(experiment)
    with create_run(experiment, path, choices, command) as run:
        steps = session_steps(experiment, run, choices, stepper, quiet=quiet)
        return run_to_completion(steps, stepper or train_step)


def _choose_stepper(experiment: Experiment) -> CompiledTrainStep | None:
    """The compiled update of a single run; None: `train_step`."""
    spec = experiment.train_spec
    return None if spec is None else select(experiment.compile, spec)


@contextmanager
def create_run(
    experiment: Experiment,
    path: Path,
    choices: dict[str, str],
    command: Sequence[str] | None = None,
) -> Iterator[RunDir]:
    """A new run directory, locked while the context is open.

    Args:
        command: see `run_experiment`.
    """
    check_files(path)  # before anything is written, the lock included
    with lock_directory(path):
        yield RunDir.create(path, experiment.config, run_info(experiment, choices, command))


def resume(
    path: Path, config: dict[str, Any] | None = None, trust: Trust = (), *, quiet: bool = False
) -> dict[str, Any]:
    """Continues the run in `path` from its newest whole checkpoint; returns the result.

    Args:
        config: in place of the saved one, say with more steps.
    """
    run = RunDir.open(path)
    # Before anything is written, the lock included.
    valid = validate(config or run.config(), trust)
    train = valid["train"]
    if train.get("leave_one_out") or train.get("ensemble") not in (None, 1):
        word = (
            "leave_one_out=true" if train.get("leave_one_out") else f"ensemble={train['ensemble']}"
        )
        raise ConfigError(f"train.{word} begins new runs, and {path} is one: resume it without")
    with lock_directory(path):
        experiment = build(valid, trust, set_up_process=True)
        stepper = _choose_stepper(experiment)

        def continue_run(**options: Any) -> dict[str, Any]:
            updates = session_steps(
                experiment, run, run.group_choices(), stepper, quiet=quiet, **options
            )
            return run_to_completion(updates, stepper or train_step)

        if experiment.train_spec is None:
            raise CheckpointError(f"{path} shows an analytic landscape: there is nothing to resume")
        if not run.has_started():
            if config is not None:
                run.write_config(config)
            run.truncate_metrics(0)
            notes = ["there is no checkpoint yet, for the run had not begun: it does so now"]
            return continue_run(notes=notes)
        saved, skipped = run.load_checkpoint()
        state = validate_state(saved)
        n_steps, result = experiment.train_spec.n_steps, run.read_json("result.json")
        finished = result.get("status") == "finished" and result.get("step") == state["step"]
        if state["step"] > n_steps or (state["step"] == n_steps and finished):
            raise ConfigError(
                f"{path} is at step {state['step']} and was to have {n_steps}: "
                f"to go on, give train.steps={2 * state['step']}, say"
            )
        _check_resumable(experiment, state)
        if config is not None:
            run.write_config(config)
        return continue_run(resumed=state, notes=skipped)


def _check_resumable(experiment: Experiment, saved: Checkpoint) -> None:
    """One update on a copy, before anything is written: what cannot go on changes nothing.

    Raises:
        CheckpointError: the checkpoint is of another configuration.
        DataError: or of other data.
    """
    assert experiment.train_spec is not None
    DataSpec.from_state(saved["frame"]).check(experiment.train_spec.dataset)
    state = initial_state(
        experiment.train_spec, copy.deepcopy(experiment.energy), experiment.generator("train")
    )
    state.load_state_dict(copy.deepcopy(saved))  # tensors that fit are taken as they are
    if state.step < experiment.train_spec.n_steps:
        try:
            # As if a row were due: it is the mean of what was saved and of this update.
            collect_metrics(
                experiment.train_spec, state, run_step(experiment.train_spec, state), last=True
            )
        except DivergedError:
            pass  # the run will say so
        except (RuntimeError, ValueError, KeyError, IndexError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"the run cannot go on with this configuration ({reason}): change less of it"
            ) from error


def session_steps(
    experiment: Experiment,
    run: RunDir,
    choices: dict[str, str],
    stepper: Stepper | None,
    *,
    resumed: Checkpoint | None = None,
    stop: StopRequest | None = None,
    quiet: bool = False,
    notes: list[str] | None = None,
) -> StepRequests[dict[str, Any]]:
    """A run with its console: yields at each update, returns the content of result.json.

    Args:
        stepper, stop: see `Session`.
        resumed: the checkpoint from which the run continues; None: a new run.
        quiet: nothing to the terminal.
        notes: warnings to log before the run starts.
    """
    n_steps = experiment.train_spec.n_steps if experiment.train_spec else 0
    run.remove_temporary_files()
    with RunConsole(run.path / "run.log", quiet=quiet, n_steps=n_steps) as console:
        for line in [*opening_lines(experiment, choices), *native.rejections()]:
            LOG.info("%s", line)
        for note in notes or []:
            LOG.warning("warning: %s", note)
        if resumed is not None:
            LOG.info("resumed at step %d of %d", resumed["step"], n_steps)
        session = Session(
            experiment, run, console, run_title(experiment, choices), resumed, stepper, stop
        )
        result = yield from session.run_steps()
        for line in closing_lines(
            run.path, result, trust_flags(experiment.config), experiment.train_spec is not None
        ):
            LOG.info("%s", line)
    return result


def record_failure(
    path: Path,
    config: dict[str, Any],
    choices: dict[str, str],
    error: Exception,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Result and log of a job that could not be run or broke; returns the result."""
    run = RunDir(path)
    before = run.read_json("result.json")
    if before:  # the session wrote it: it knows the step and the numbers
        return before
    lines = str(error).splitlines() or [type(error).__name__]
    result = run_result("failed", error="; ".join(lines))
    if not (path / "config.yaml").exists():
        run.write_config(config)
        run.write_json("run.json", {"command": list(command or sys.argv), "choices": choices})
    run.write_json("result.json", result)
    with RunConsole(path / "run.log", quiet=True):
        LOG.error("%s", result["error"], exc_info=error)
    return result
