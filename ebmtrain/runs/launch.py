"""Starts and resumes runs: from an experiment to a complete run directory."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebmtrain.config.build import build
from ebmtrain.config.experiment import Experiment
from ebmtrain.config.trust import Trust, trust_flags
from ebmtrain.config.validate import validate
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.errors import CheckpointError, ConfigError, DivergedError, one_line
from ebmtrain.runs.initial_weights import with_initial_weights
from ebmtrain.runs.loggers.console import LOG, RunConsole
from ebmtrain.runs.provenance import environment_changes, run_info
from ebmtrain.runs.session import Session, Stepper
from ebmtrain.runs.storage.atomic_io import Identity, lock_directory
from ebmtrain.runs.storage.checkpoint_schema import Checkpoint, validate_state
from ebmtrain.runs.storage.rundir import RunDir, check_files
from ebmtrain.runs.summary import closing_lines, opening_lines, run_title
from ebmtrain.runtime import native
from ebmtrain.runtime.processes import current_rank
from ebmtrain.runtime.signals import StopRequest
from ebmtrain.training.compiled.select import select_stepper
from ebmtrain.training.loop import (
    StepRequests,
    collect_metrics,
    run_step,
    run_to_completion,
    train_step,
)
from ebmtrain.training.state import initial_state

if TYPE_CHECKING:
    from ebmtrain.runtime.team import Team


def run_experiment(
    experiment: Experiment,
    path: Path,
    choices: dict[str, str],
    *,
    quiet: bool = False,
    command: Sequence[str] | None = None,
    locked: Identity | None = None,
) -> dict[str, Any]:
    """Makes a new run in `path`; returns its result.

    Args:
        choices: the preset of each group.
        quiet: prints nothing.
        command: for run.json; None: the arguments of this process.
        locked: identity of the folder if the caller holds its lock.
    """
    experiment = with_initial_weights(experiment)
    with create_run(experiment, path, choices, command, locked) as run:
        return _run_session(experiment, run, choices, quiet=quiet)


def _run_session(
    experiment: Experiment, run: RunDir, choices: dict[str, str], **options: Any
) -> dict[str, Any]:
    """Runs a single session to its end; returns the result."""
    spec = experiment.train_spec
    stepper: Any = None if spec is None else select_stepper(experiment.compile, spec)
    with nullcontext() if spec is None else _team(experiment, run, options) as team:
        if team is not None:
            from ebmtrain.runs.team import LeadStep

            stepper = LeadStep(team)
        steps = session_steps(experiment, run, choices, stepper, team=team, **options)
        return run_to_completion(steps, stepper or train_step)


def _team(
    experiment: Experiment, run: RunDir, options: Mapping[str, Any]
) -> AbstractContextManager[Team | None]:
    """The processes that torchrun started, if it started this one: see `runs.team.lead`."""
    if current_rank() is None:
        return nullcontext()
    from ebmtrain.runs.team import lead  # which imports torch.distributed

    return lead(experiment, run.path, options.get("resumed"))


@contextmanager
def create_run(
    experiment: Experiment,
    path: Path,
    choices: dict[str, str],
    command: Sequence[str] | None = None,
    locked: Identity | None = None,
) -> Iterator[RunDir]:
    """A new run directory, locked while the context is open.

    Args:
        command, locked: see `run_experiment`.
    """
    check_files(path)  # before anything is written, the lock included
    with nullcontext(locked) if locked else lock_directory(path) as identity:
        about = run_info(experiment, choices, command)
        yield RunDir.create(path, experiment.config, about, identity)


def resume(
    path: Path,
    config: dict[str, Any] | None = None,
    trust: Trust = (),
    *,
    quiet: bool = False,
    locked: Identity | None = None,
) -> dict[str, Any]:
    """Continues the run in `path` from its newest whole checkpoint; returns the result.

    Args:
        config: in place of the saved one, say with more steps.
        quiet: prints nothing.
        locked: see `run_experiment`.

    Raises:
        ConfigError: the run is complete, or the configuration asks for several runs.
        CheckpointError: no checkpoint is intact, or it does not fit the configuration; or the run
            shows an analytic landscape, and is complete.
        DataError: the data are not those of the run.
    """
    run = RunDir.open(path)
    # Before anything is written, the lock included.
    valid = validate(config or run.config(), trust)
    train = valid["train"]
    if train.get("leave_one_out") or train.get("ensemble") not in (None, 1):
        several = (
            "leave_one_out=true" if train.get("leave_one_out") else f"ensemble={train['ensemble']}"
        )
        raise ConfigError(f"train.{several} begins new runs, and {path} is one: resume it without")
    with nullcontext() if locked else lock_directory(path, run.identity):
        experiment = build(valid, trust, set_up_process=True)
        choices = run.group_choices()
        if experiment.train_spec is None:
            if run.read_json("result.json").get("status") != "finished":
                return _run_session(experiment, run, choices, quiet=quiet)
            raise CheckpointError(f"{path} is an analytic landscape: there is nothing to resume")
        if not run.has_started():
            if config is not None:
                run.write_config(config)
            run.truncate_metrics(0)
            notes = ["there is no checkpoint: the run had not begun, and begins now"]
            experiment = with_initial_weights(experiment)
            return _run_session(experiment, run, choices, quiet=quiet, notes=notes)
        saved, skipped = run.load_checkpoint()
        state = validate_state(saved)
        if valid["model"].get("init") is not None:
            experiment = experiment.with_units(DataSpec.from_state(state["frame"]).standardization)
        assert experiment.train_spec is not None
        n_steps, result = experiment.train_spec.n_steps, run.read_json("result.json")
        finished = result.get("status") == "finished" and result.get("step") == state["step"]
        if state["step"] > n_steps or (state["step"] == n_steps and finished):
            raise ConfigError(
                f"{path} is at step {state['step']} of {n_steps}: to continue, give "
                f"train.steps={2 * state['step']}, say"
            )
        _check_resumable(experiment, state)
        notes = []
        if config is not None:
            if _sets_adapted_step(run.config(), config, state):
                notes = ["sampler.step_size has no effect: the run keeps the adapted step size"]
            run.write_config(config)
        notes += [*skipped, *environment_changes(run.read_json("run.json"), experiment)]
        return _run_session(experiment, run, choices, quiet=quiet, resumed=state, notes=notes)


def _sets_adapted_step(before: dict[str, Any], config: dict[str, Any], saved: Checkpoint) -> bool:
    """True if the configuration changes the initial step size of an adaptation that has begun."""
    sizes = [c["sampler"].get("step_size") for c in (before, config) if c.get("sampler")]
    return "step_size" in saved["method"] and len(set(sizes)) == 2


def _check_resumable(experiment: Experiment, saved: Checkpoint) -> None:
    """Makes one update of a copy, before anything is written.

    Raises:
        CheckpointError: the checkpoint does not fit the configuration.
        DataError: the data are not those of the run.
    """
    assert experiment.train_spec is not None
    DataSpec.from_state(saved["frame"]).check(experiment.train_spec.dataset)
    state = initial_state(
        experiment.train_spec, copy.deepcopy(experiment.energy), experiment.generator("train")
    )
    state.load_state_dict(copy.deepcopy(saved))  # it keeps tensors of the checkpoint
    if state.step < experiment.train_spec.n_steps:
        try:
            # last: the saved window of metrics is averaged with those of this update.
            metrics = run_step(experiment.train_spec, state)
            collect_metrics(experiment.train_spec, state, metrics, last=True)
        except DivergedError:
            pass  # the run will report it
        except (RuntimeError, ValueError, KeyError, IndexError, TypeError) as error:
            reason = one_line(error)
            raise CheckpointError(
                f"the run cannot continue with this configuration ({reason}): change less of it"
            ) from error


def session_steps(
    experiment: Experiment,
    run: RunDir,
    choices: dict[str, str],
    stepper: Stepper | None,
    *,
    resumed: Checkpoint | None = None,
    stop: StopRequest | None = None,
    team: Team | None = None,
    quiet: bool = False,
    notes: list[str] | None = None,
) -> StepRequests[dict[str, Any]]:
    """A run with its console: yields at each update, returns the content of result.json.

    Args:
        stepper, stop, team: see `Session`.
        resumed: the checkpoint from which the run continues; None: a new run.
        quiet: nothing to the terminal.
        notes: warnings to log before the run starts.
    """
    n_steps = experiment.train_spec.n_steps if experiment.train_spec else 0
    step = resumed["step"] if resumed else 0
    run.remove_temporary_files()
    with RunConsole(run, quiet=quiet, n_steps=n_steps, step=step) as console:
        for line in [*opening_lines(experiment, choices), *native.rejections()]:
            LOG.info("%s", line)
        for note in notes or []:
            LOG.warning("warning: %s", note)
        if resumed is not None:
            LOG.info("resumed at step %d of %d", resumed["step"], n_steps)
        session = Session(
            experiment, run, console, run_title(experiment, choices), resumed, stepper, stop, team
        )
        result = yield from session.run_steps()
        for line in closing_lines(
            run.path, result, trust_flags(experiment.config), experiment.train_spec is not None
        ):
            LOG.info("%s", line)
    return result
