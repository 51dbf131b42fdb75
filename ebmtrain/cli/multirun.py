"""`ebmtrain -m`: many jobs, of which none stops the others, and one table at the end."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from ebmtrain.config import presets
from ebmtrain.config.ensemble import build_members
from ebmtrain.errors import ConfigError
from ebmtrain.runs import ensemble
from ebmtrain.runs.outcome import outcome
from ebmtrain.runs.report.discovery import PRESETS_FOLDER, find_runs
from ebmtrain.runtime.signals import TerminationSignal


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

    @property
    def first_job(self) -> list[str]:
        return self.jobs[0]

    def keep_presets(self, snapshot: Path) -> None:
        """The YAML files that all jobs are composed from, for the record."""
        shutil.copytree(snapshot, self.path / PRESETS_FOLDER)

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


def plan_sweep(config: DictConfig) -> Sweep:
    """What a composed multirun is about to do, with Hydra's basic sweeper."""
    arguments = [f"{k}={v}" for k, v in (config.hydra.sweeper.get("params") or {}).items()]
    arguments += list(config.hydra.overrides.task)
    overrides = OverridesParser.create().parse_overrides(arguments)
    jobs = BasicSweeper.split_arguments(overrides, None)[0]
    return Sweep(Path(config.hydra.sweep.dir), jobs)


def run_job(config: DictConfig, choices: dict[str, str], path: Path, settings: Any) -> None:
    """One job: what goes wrong is written into its own result.json, and the next one starts."""
    from ebmtrain.runs.launch import run_experiment

    name = f"job {settings.job.num}  {' '.join(settings.overrides.task)}"
    began = time.perf_counter()
    try:
        members = build_members(config)
    except Exception as error:  # whatever it was, the other jobs are not to suffer for it
        outcome(name, error, path, presets.to_plain(config), choices, began)
        return
    if len(members) > 1:
        stopped = ensemble.run_ensemble(members, path, choices, quiet=True, name=name)
    else:
        try:
            result = run_experiment(members[0], path, choices, quiet=True)
        except Exception as error:  # likewise
            result = error
        stopped = outcome(name, result, path, members[0].config, choices, began).get("signal")
    if stopped:
        raise TerminationSignal(stopped)  # and with the job the sweep
