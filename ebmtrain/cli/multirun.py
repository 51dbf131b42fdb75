"""`ebmtrain -m`: many jobs, of which none stops the others, and one table at the end."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ebmtrain.config.presets import Presets
from ebmtrain.errors import ConfigError
from ebmtrain.runs.report.discovery import PRESETS_FOLDER, find_runs


@dataclass
class Sweep:
    """One sweep's directory, which was not there or empty before, and what it is to hold.

    Raises:
        ConfigError: there is something in it.
    """

    path: Path
    jobs: list[list[str]]
    key: str = "hydra.sweep.dir"
    """What says where it goes."""
    quiet: bool = False
    """The leaderboard goes to files alone: of runs on different data, which are not compared."""

    def __post_init__(self) -> None:
        if find_runs(self.path):
            raise ConfigError(f"{self.path} holds a sweep already: choose another {self.key}")
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise ConfigError(
                f"{self.path} is there and not an empty folder: choose another {self.key}"
            )

    def keep_presets(self, frozen: Presets) -> Presets:
        """Copies the YAML files that all jobs are composed from into the sweep's directory."""
        return frozen.freeze((self.path / PRESETS_FOLDER).absolute())

    def tidy(self) -> None:
        """Removes what this call and Hydra wrote for a sweep of which no job began.

        Folders that are then empty are removed as well.
        """
        if not self.path.is_dir() or find_runs(self.path):
            return
        shutil.rmtree(self.path / PRESETS_FOLDER, ignore_errors=True)
        (self.path / "multirun.yaml").unlink(missing_ok=True)
        for folder, _, _ in os.walk(self.path, topdown=False):
            with suppress(OSError):  # not empty
                Path(folder).rmdir()

    @property
    def kind(self) -> str:
        return "ensemble" if self.key == "hydra.run.dir" else "sweep"

    def report(self) -> int:
        """Prints the leaderboard and writes it beside the jobs; 1 if a job failed."""
        from ebmtrain.runs.report.write import report

        entries = report(self.path, quiet=self.quiet)
        begun = [entry for entry in entries if entry.status != "killed"]
        failed = [entry for entry in begun if entry.status not in ("finished", "interrupted")]
        missing = len(begun) < len(self.jobs)
        count = f"{len(begun)} of {len(self.jobs)}" if missing else len(begun)
        print(f"{self.kind:8} {self.path}  ({count} jobs, {len(failed)} failed)")
        return 1 if failed or missing else 0


def run_and_report(sweep: Sweep, start: Callable[[], object]) -> int:
    """Runs the jobs, prints the leaderboard; returns the exit code, 128 + n after signal n."""
    stopped = 0
    try:
        start()
    except KeyboardInterrupt as stop:
        stopped = getattr(stop, "signal", signal.SIGINT)
    finally:
        sweep.tidy()
    code = sweep.report() if find_runs(sweep.path) else 0
    return 128 + stopped if stopped else code
