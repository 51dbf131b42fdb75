"""`ebmtrain -m`: independent jobs, and a leaderboard at the end."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ebmtrain.config.presets import Presets
from ebmtrain.errors import ConfigError, counted
from ebmtrain.runs.report.discovery import PRESETS_FOLDER, find_runs
from ebmtrain.runs.storage.manifest import MANIFEST, Job, Manifest


@dataclass
class Sweep:
    """The directory of a sweep or of an ensemble.

    Raises:
        ConfigError: it is not empty.
    """

    path: Path
    jobs: Sequence[Job | list[str]]
    """The jobs, or the overrides of each member of an ensemble; empty if they are not known."""
    key: str = "hydra.sweep.dir"
    """The option that sets the path."""
    quiet: bool = False
    """Writes the leaderboard to files only: the runs are on different data."""

    def __post_init__(self) -> None:
        if find_runs(self.path):
            raise ConfigError(f"{self.path} holds a sweep already: choose another {self.key}")
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise ConfigError(f"{self.path} is not an empty folder: choose another {self.key}")

    def keep_presets(self, frozen: Presets) -> Presets:
        """Copies the YAML files of the jobs into the sweep's directory."""
        return frozen.freeze((self.path / PRESETS_FOLDER).absolute())

    def write_manifest(self, command: Sequence[str], config_name: str, digest: str) -> None:
        """Writes sweep.json, with which the sweep can be resumed, if the jobs are known.

        Args:
            command: what the user typed.
            config_name: of the primary configuration.
            digest: of the presets in the sweep's directory.
        """
        if not self.jobs:  # another sweeper chooses them one by one
            return
        from importlib.metadata import version

        versions = {name: version(name) for name in ("ebmtrain", "torch", "hydra-core")}
        jobs = tuple(job for job in self.jobs if isinstance(job, Job))
        Manifest(
            command=tuple(command), config_name=config_name, versions=versions, presets=digest,
            jobs=jobs,
        ).write(self.path)  # fmt: skip

    def remove_empty(self) -> None:
        """Removes the files of a sweep that started no job, and folders that are then empty."""
        if not self.path.is_dir() or find_runs(self.path):
            return
        shutil.rmtree(self.path / PRESETS_FOLDER, ignore_errors=True)
        for name in ("multirun.yaml", MANIFEST):
            (self.path / name).unlink(missing_ok=True)
        for folder, _, _ in os.walk(self.path, topdown=False):
            with suppress(OSError):  # not empty
                Path(folder).rmdir()

    def report(self) -> int:
        """See `report_sweep`."""
        kind = "ensemble" if self.key == "hydra.run.dir" else "sweep"
        return report_sweep(self.path, len(self.jobs), kind, quiet=self.quiet)


def report_sweep(path: Path, n_jobs: int, kind: str = "sweep", *, quiet: bool = False) -> int:
    """Prints the leaderboard and writes it to the directory; 1 if a job failed."""
    from ebmtrain.runs.report.write import report

    entries = report(path, quiet=quiet)
    statuses = [entry.status for entry in entries if entry.status != "killed"]
    interrupted = statuses.count("interrupted")
    failed = len(statuses) - interrupted - statuses.count("finished")
    missing = len(statuses) < n_jobs
    total = counted(n_jobs if missing else len(statuses), "job")
    counts = [f"{len(statuses)} of {total}" if missing else total, f"{failed} failed"]
    counts += [f"{interrupted} interrupted"] if interrupted else []
    print(f"{kind:8} {path}  ({', '.join(counts)})")
    return 1 if failed or missing else 0


def run_and_report(sweep: Sweep, start: Callable[[], object]) -> int:
    """Runs the jobs, prints the leaderboard; returns the exit code, 128 + n after signal n."""
    stopped = 0
    try:
        start()
    except KeyboardInterrupt as stop:
        stopped = getattr(stop, "signal", signal.SIGINT)
    finally:
        sweep.remove_empty()
    code = sweep.report() if find_runs(sweep.path) else 0
    return 128 + stopped if stopped else code
