"""A run that several processes train: what process 0 starts, and what the others do."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ebmtrain.config.build import build
from ebmtrain.config.experiment import Experiment
from ebmtrain.config.presets import extend_import_path
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.errors import ProcessError
from ebmtrain.runs.initial_weights import with_initial_weights
from ebmtrain.runs.storage.checkpoint_schema import Checkpoint
from ebmtrain.runtime.processes import current_rank
from ebmtrain.runtime.signals import StopRequest
from ebmtrain.runtime.team import END, GATHER, LOAD, STEP, Team
from ebmtrain.training.loop import StepResult, run_step, train_step
from ebmtrain.training.state import TrainSpec, TrainState, initial_state
from ebmtrain.types import Batch


class LeadStep:
    """`train_step` of process 0, in which all take part."""

    compiled = False

    def __init__(self, team: Team):
        self.team = team

    def __call__(
        self, spec: TrainSpec, state: TrainState, batch: Batch, weight: float | None
    ) -> StepResult:
        with self.team.command(STEP):
            return train_step(spec, state, batch, weight)


def take_part(command: Callable[[], int]) -> int:
    """Runs the command in process 0; the others take part in the run that it trains, if any.
    Returns the exit code."""
    place = current_rank()
    assert place is not None
    if place.rank:
        return _follow(Team(place))
    code = command()
    Team(place).dismiss()
    return code


def earlier_run() -> Path | None:
    """The run directory that a process which torchrun started before this one, after whose end it
    started this one, had begun; None: there is none."""
    place = current_rank()
    path = None if place is None else Team(place).run
    return None if path is None or not (Path(path) / "config.yaml").exists() else Path(path)


@contextmanager
def lead(experiment: Experiment, path: Path, resumed: Checkpoint | None) -> Iterator[Team | None]:
    """The processes of the run, which wait for commands, or None if this is the only one; at the
    end of the context they end.

    Args:
        path: of the run, with which an attempt after this one continues.
        resumed: the checkpoint that the run continues from; None: a new run.

    Raises:
        ProcessError: another process did not connect.
    """
    place = current_rank()
    assert place is not None
    team = Team(place)
    team.run = str(path.absolute())
    if team.size == 1:
        yield None
        return
    job = {"config": experiment.config, "import_path": sys.path, "resumed": resumed is not None}
    backend = "cpu:gloo,cuda:nccl" if experiment.device.type == "cuda" else "gloo"
    try:
        team.lead(job, backend, experiment.config["device"].get("patience", 1800.0))
        if resumed is not None:
            team.send(resumed)
        try:
            yield team
        except ProcessError:
            raise
        except BaseException:
            team.end()
            raise
        team.end()
    finally:
        team.close()


def _follow(team: Team) -> int:
    """What every process but the first does: its part of each command. Returns the exit code."""
    logging.getLogger("ebmtrain").disabled = True  # the console is that of process 0
    job = team.join()
    if job is None:
        return 0
    extend_import_path(*job["import_path"])
    experiment = build(job["config"], set_up_process=True)
    saved = team.send() if job["resumed"] else None
    if saved is None:
        experiment = with_initial_weights(experiment)
    elif job["config"]["model"].get("init") is not None:
        experiment = experiment.with_units(DataSpec.from_state(saved["frame"]).standardization)
    assert experiment.train_spec is not None
    spec = experiment.train_spec
    spec = replace(spec, shards=replace(spec.shards, team=team))
    state = initial_state(spec, experiment.energy, experiment.generator("train"))
    if saved is not None:
        state.load_state_dict(saved)
    with StopRequest() as stop:
        while (command := team.next_command(stop.signal or 0)) != END:
            if command == STEP:
                run_step(spec, state)
            elif command == GATHER:
                state.gather()
            elif command == LOAD:
                state.load_state_dict(team.send())
    team.close()
    return 0
