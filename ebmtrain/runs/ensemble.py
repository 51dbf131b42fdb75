"""Many seeds of one configuration in one process: `train.ensemble`.

Each member is an ordinary run with its own directory. Their training loops are interleaved, and
their updates are computed in one batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ebmtrain.config.experiment import Experiment
from ebmtrain.runs.initial_weights import with_initial_weights
from ebmtrain.runs.launch import create_run, session_steps
from ebmtrain.runs.loggers.console import print_line
from ebmtrain.runs.outcome import report_outcome
from ebmtrain.runs.report.leave_one_out import write_leave_one_out
from ebmtrain.runtime.signals import StopRequest, TerminationSignal
from ebmtrain.training.compiled.select import select_ensemble_stepper
from ebmtrain.training.loop import StepRequests, run_interleaved

_Result = dict[str, Any]


def _run_members(
    members: Sequence[Experiment],
    paths: Sequence[Path],
    choices: dict[str, str],
    ended: Callable[[int, _Result | Exception], None],
    *,
    quiet: bool,
    command: Sequence[str] | None = None,
) -> int | None:
    """Trains the members in these folders; returns the signal that stopped them, or None.

    Args:
        ended: called with the number of each member that ends, and its result or its exception,
            which does not stop the others.
        quiet: prints nothing; otherwise the lines of the first member are printed.
    """
    first = members[0]
    assert first.train_spec is not None
    stop = StopRequest()
    stepper = select_ensemble_stepper(first.compile, first.train_spec, stop.interruptible)

    def member_steps(number: int) -> StepRequests[_Result]:
        experiment, hidden = members[number], quiet or number > 0
        with create_run(experiment, paths[number], choices, command) as run:
            return (
                yield from session_steps(experiment, run, choices, stepper, stop=stop, quiet=hidden)
            )

    def on_end(number: int, result: _Result | Exception) -> None:
        stop.raises = None  # it applied to the member that has ended; the others must save
        ended(number, result)

    with stop:
        run_interleaved([member_steps(i) for i in range(len(members))], stepper, on_end)
    return stop.signal


def member_overrides(members: list[Experiment]) -> list[str]:
    """The override of each member: its seed, or the class that it leaves out."""
    if len({experiment.seed for experiment in members}) == len(members):
        return [f"seed={experiment.seed}" for experiment in members]
    return [f"without={experiment.config['dataset']['without']}" for experiment in members]


def run_ensemble(
    members: list[Experiment],
    path: Path,
    choices: dict[str, str],
    *,
    name: str = "",
    quiet: bool = False,
    command: Sequence[str] | None = None,
) -> list[_Result]:
    """Runs the ensemble in this folder; returns the results of its members.

    Args:
        name: of the job if the ensemble is a job of a sweep.
        quiet: prints one line per member only; otherwise the lines of the first member as well.
        command: for run.json; None: the arguments of this process.

    Raises:
        TerminationSignal: a signal stopped it, after the members were saved.
    """
    began, each = time.perf_counter(), member_overrides(members)
    members = [with_initial_weights(member) for member in members]
    paths = [path / f"{i}_{override}" for i, override in enumerate(each)]
    results: dict[int, _Result] = {}

    def ended(number: int, result: _Result | Exception) -> None:
        label = f"{name or f'member {number}'}  {each[number]}"
        config = members[number].config
        results[number] = report_outcome(
            label, result, paths[number], config, choices, began, command
        )

    stopped = _run_members(members, paths, choices, ended, quiet=quiet, command=command)
    if stopped and not quiet:
        print_line(f'next     for run in {path}/*_*=*; do ebmtrain resume "$run"; done')
    if each[0].startswith("without="):
        write_leave_one_out(
            path, [results[i] for i in sorted(results)], time.perf_counter() - began
        )
    if stopped:
        raise TerminationSignal(stopped)
    return [results[i] for i in sorted(results)]
