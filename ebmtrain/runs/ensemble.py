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
from ebmtrain.runs.console import print_line
from ebmtrain.runs.launch import experiment_steps
from ebmtrain.runs.outcome import report_outcome
from ebmtrain.runs.report.leave_one_out import write_leave_one_out
from ebmtrain.runtime.signals import StopRequest, TerminationSignal
from ebmtrain.training.compiled.inductor import should_compile
from ebmtrain.training.compiled.vmap import VmapTrainStep
from ebmtrain.training.loop import run_interleaved

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
    """New runs in these folders; the signal that has stopped them, if one has.

    Args:
        members: of one configuration but for the seed, with something to train.
        ended: is told the number of each member that comes to its end, and its result or what was
            wrong with it, which stops no other.
        quiet: nothing to the terminal; else the first member's lines.
    """
    first = members[0]
    assert first.train_spec is not None
    stepper, stop = (
        VmapTrainStep(
            compile=should_compile(first.compile, first.train_spec),
            cuda_graph=first.compile == "cuda_graph",
        ),
        StopRequest(),
    )
    runs = [
        experiment_steps(
            experiment, path, choices, stepper, stop=stop, quiet=quiet or i > 0, command=command
        )
        for i, (experiment, path) in enumerate(zip(members, paths, strict=True))
    ]

    def told(number: int, outcome: _Result | Exception) -> None:
        stop.raises = False  # which holds for the one that has just ended: others have to save
        ended(number, outcome)

    with stop:
        run_interleaved(runs, stepper, told)
    return stop.signal


def member_overrides(members: list[Experiment]) -> list[str]:
    """The override of each member: its seed, or the class that it leaves out."""
    if len({experiment.seed for experiment in members}) == len(members):
        return [f"seed={experiment.seed}" for experiment in members]
    return [f"without={experiment.config['dataset']['without']}" for experiment in members]


def _folders(path: Path, members: list[Experiment]) -> list[Path]:
    """The folders of the members, named like the jobs of a sweep."""
    return [path / f"{i}_{word}" for i, word in enumerate(member_overrides(members))]


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
        name: of the job of a sweep that it is.
        quiet: nothing but a line for each member; else the first one's lines too.
        command: for run.json; None: the arguments of this process.

    Raises:
        TerminationSignal: a signal stopped it, after the members were saved.
    """
    began, paths, each = time.perf_counter(), _folders(path, members), member_overrides(members)
    results: dict[int, dict[str, Any]] = {}

    def ended(number: int, found: dict[str, Any] | Exception) -> None:
        told = f"{name or f'member {number}'}  {each[number]}"
        config = members[number].config
        results[number] = report_outcome(
            told, found, paths[number], config, choices, began, command
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
