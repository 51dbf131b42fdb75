"""`ebmtrain -m`: independent jobs, and a leaderboard at the end."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ebmtrain.config.presets import Presets
from ebmtrain.errors import ConfigError, counted
from ebmtrain.runs.report.discovery import PRESETS_FOLDER, find_runs


@dataclass
class Sweep:
    """The directory of a sweep or of an ensemble.

    Raises:
        ConfigError: it is not empty.
    """

    path: Path
    jobs: list[list[str]]
    """The overrides of each job."""
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

    def remove_empty(self) -> None:
        """Removes the files of a sweep that started no job, and folders that are then empty."""
        if not self.path.is_dir() or find_runs(self.path):
            return
        shutil.rmtree(self.path / PRESETS_FOLDER, ignore_errors=True)
        (self.path / "multirun.yaml").unlink(missing_ok=True)
        for folder, _, _ in os.walk(self.path, topdown=False):
            with suppress(OSError):  # not empty
                Path(folder).rmdir()

    def report(self) -> int:
        """Prints the leaderboard and writes it to the directory; 1 if a job failed."""
        from ebmtrain.runs.report.write import report

        entries = report(self.path, quiet=self.quiet)
        statuses = [entry.status for entry in entries if entry.status != "killed"]
        interrupted = statuses.count("interrupted")
        failed = len(statuses) - interrupted - statuses.count("finished")
        missing = len(statuses) < len(self.jobs)
        total = counted(len(self.jobs) if missing else len(statuses), "job")
        counts = [f"{len(statuses)} of {total}" if missing else total, f"{failed} failed"]
        counts += [f"{interrupted} interrupted"] if interrupted else []
        kind = "ensemble" if self.key == "hydra.run.dir" else "sweep"
        print(f"{kind:8} {self.path}  ({', '.join(counts)})")
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
