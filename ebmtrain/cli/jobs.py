"""One job of a sweep: a run, or an ensemble, in its own folder."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from ebmtrain.cli.compose import adopt_model
from ebmtrain.config import presets
from ebmtrain.config.ensemble import build_members
from ebmtrain.config.trust import Trust
from ebmtrain.errors import LockedError, UnsafeError
from ebmtrain.runs.report.discovery import find_runs
from ebmtrain.runtime.signals import TerminationSignal

if TYPE_CHECKING:
    from ebmtrain.config.experiment import Experiment
    from ebmtrain.runs.storage.atomic_io import Identity


def _is_begun(path: Path) -> bool:
    """True if the folder of a job holds a run, or runs of an ensemble."""
    return (path / "config.yaml").exists() or bool(find_runs(path))


@contextmanager
def claim(path: Path, name: str, *, quiet: bool = False) -> Iterator[Identity | None]:
    """Holds the lock of the folder of a job and gives its identity; prints a line and gives None if
    another process holds it.

    Args:
        name: of the job.
        quiet: prints nothing.
    """
    from ebmtrain.runs.loggers.console import print_line
    from ebmtrain.runs.storage.atomic_io import lock_directory
    from ebmtrain.runs.storage.rundir import check_files

    check_files(path)
    lock = lock_directory(path)
    try:
        identity = lock.__enter__()
    except LockedError as error:
        if not quiet:
            print_line(f"{name}  skipped: {str(error).partition(':')[0]}, another worker")
        yield None
        return
    try:
        yield identity
    finally:
        lock.__exit__(None, None, None)


def start_job(
    config: DictConfig,
    overrides: Sequence[str],
    choices: dict[str, str],
    path: Path,
    name: str,
    *,
    command: Sequence[str] | None = None,
    trust: Trust = None,
    locked: Identity | None = None,
) -> list[dict[str, Any]]:
    """Builds and runs a job; returns the result of each of its runs. An error that ends it is
    written to its result.json.

    Args:
        config: composed, with or without Hydra's section.
        overrides: of the job.
        choices: the preset of each group.
        name: at the start of its line.
        command: see `runs.launch.run_experiment`.
        trust: see `config.validate.validate`.
        locked: identity of the folder, whose lock the caller holds.

    Raises:
        UnsafeError: the configuration is untrusted and asks for parts of another package.
        TerminationSignal: a signal ended an ensemble, after its state was saved.
    """
    from ebmtrain.runs.ensemble import run_ensemble
    from ebmtrain.runs.launch import run_experiment
    from ebmtrain.runs.outcome import report_outcome

    members: list[Experiment] = []
    began = time.perf_counter()
    try:
        adopt_model(config, overrides)
        members = build_members(config, trust)
        if len(members) > 1:
            return run_ensemble(members, path, choices, name=name, quiet=True, command=command)
        found: dict[str, Any] | Exception = run_experiment(
            members[0], path, choices, quiet=True, command=command, locked=locked
        )
    except Exception as error:  # of any kind: it is the result of this job, and the others go on
        if trust is not None and isinstance(error, UnsafeError):
            raise
        found = error
    plain = members[0].config if members else presets.to_plain(config)
    return [report_outcome(name, found, path, plain, choices, began, command)]


def run_unclaimed_job(
    config: DictConfig,
    overrides: Sequence[str],
    choices: dict[str, str],
    path: Path,
    name: str,
    command: Sequence[str] | None,
) -> list[dict[str, Any]]:
    """`start_job` unless another worker has begun the job, about which a line is printed; an error
    of the folder is written to its result.json as well."""
    from ebmtrain.runs.loggers.console import print_line
    from ebmtrain.runs.outcome import report_outcome

    began = time.perf_counter()
    try:
        with claim(path, name) as locked:
            if locked is None:
                return []
            if not _is_begun(path):
                return start_job(
                    config, overrides, choices, path, name, command=command, locked=locked
                )
            print_line(f"{name}  skipped: another worker began it")
            return []
    except Exception as error:  # as in start_job
        plain = presets.to_plain(config)
        return [report_outcome(name, error, path, plain, choices, began, command)]


def report_job(run: Callable[[], dict[str, Any]], path: Path, name: str) -> dict[str, Any]:
    """Runs one job in its folder and prints its line; returns its result.

    Raises:
        UnsafeError: the run directory asks for what is not allowed.
    """
    from ebmtrain.runs.outcome import report_outcome

    began = time.perf_counter()
    try:
        found: dict[str, Any] | Exception = run()
    except UnsafeError:
        raise
    except Exception as error:  # as in start_job
        found = error
    return report_outcome(name, found, path, {}, {}, began)


def mean_objective(results: list[dict[str, Any]], *, in_sweep: bool) -> float | None:
    """The mean of the best values, or of the energy distances: see `train.run_job`.

    Raises:
        TerminationSignal: a signal stopped one of the runs.
    """
    for result in results:
        if result["signal"]:
            raise TerminationSignal(result["signal"])
    values = [
        result["best"]["value"] if result["best"] else result["metrics"].get("energy_distance")
        for result in results
    ]
    measured = [value for value in values if value is not None]
    return statistics.fmean(measured) if measured else math.inf if in_sweep else None
