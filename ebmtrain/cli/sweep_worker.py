"""`ebmtrain resume SWEEP`: works through the jobs of a sweep that are not complete.

Any number of workers may do so at once, on machines that share the folder: each job is claimed by
the lock of its folder. There is no other state than the manifest and the runs themselves.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from ebmtrain.cli.arguments import check_options
from ebmtrain.cli.frozen_presets import FrozenPresets
from ebmtrain.cli.jobs import claim, report_job, start_job
from ebmtrain.cli.multirun import report_sweep
from ebmtrain.config.ensemble import build_members
from ebmtrain.errors import ConfigError, counted
from ebmtrain.runs.report.discovery import find_runs
from ebmtrain.runs.storage.manifest import Job, Manifest, job_path
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.runtime.signals import TerminationSignal

if TYPE_CHECKING:
    from ebmtrain.runs.storage.atomic_io import Identity

Result = dict[str, Any]
_FAILED = ("failed", "diverged")


def main(folder: Path, options: Mapping[str, Any], trust: tuple[str, ...]) -> int:
    """Runs what is missing; returns the exit code: 1 if a job of the sweep failed.

    Args:
        options: `failed=again` repeats jobs that failed or diverged.
    """
    check_options(options, ("failed",))
    if options.get("failed", "again") != "again":
        raise ConfigError(
            f"failed={options['failed']} is unknown: give failed=again, or leave it out"
        )
    worker = _Worker(folder, trust, again="failed" in options)
    stopped = 0
    try:
        worker.work()
    except TerminationSignal as stop:
        stopped = stop.signal
    left = [] if stopped else worker.unfinished()
    if left:
        jobs = f"{len(left)} of {counted(len(worker.jobs), 'job')}"
        print(f"sweep    {folder}  ({jobs} in progress elsewhere)")
        return int(worker.failed)
    code = report_sweep(folder, len(worker.jobs)) if find_runs(folder) else 0
    return 128 + stopped if stopped else code


class _Worker:
    """
    Args:
        folder: of the sweep.
        trust: see `config.validate.validate`.
        again: repeats jobs that failed.
    """

    def __init__(self, folder: Path, trust: tuple[str, ...], *, again: bool):
        manifest = Manifest.read(folder)
        if not manifest.jobs:
            raise ConfigError(
                f"{folder} is a search: repeat its command, {shlex.join(manifest.command)} "
                f"search.trials=N hydra.sweep.dir={folder}"
            )
        self.folder, self.trust, self.again, self.jobs = folder, trust, again, manifest.jobs
        self.paths = {job.number: job_path(folder, job) for job in self.jobs}
        self.presets = FrozenPresets(folder, manifest)
        self.failed = False
        """Whether a job that this process ran or found failed."""
        self.tried: set[int] = set()
        """Jobs that this process ran or found complete."""
        self.told: set[int] = set()
        """Jobs that another process holds, about which a line was printed."""

    def work(self) -> None:
        """Takes jobs until none is left that it could take.

        Raises:
            TerminationSignal: a signal stopped a job, whose state was saved.
        """
        while any(self._take(job) for job in self.jobs if job.number not in self.tried):
            pass

    def unfinished(self) -> list[Job]:
        """The jobs that other processes hold."""
        return [
            job
            for job in self.jobs
            if job.number not in self.tried and not self._ended(self.paths[job.number])
        ]

    def _take(self, job: Job) -> bool:
        """True if this process ran the job."""
        path = self.paths[job.number]
        if self._ended(path):
            self.tried.add(job.number)
            return False
        with claim(path, job.name, quiet=job.number in self.told) as locked:
            if locked is None:
                self.told.add(job.number)
                return False
            self.tried.add(job.number)
            if self._ended(path):  # another worker was faster
                return False
            self._run(job, path, locked)
        return True

    def _ended(self, path: Path) -> bool:
        """True if a run is complete. An ensemble is no run: its members are."""
        status = _read_result(path).get("status")
        failed = status in _FAILED and not self.again
        self.failed |= failed
        return failed or status == "finished"

    def _run(self, job: Job, path: Path, locked: Identity) -> None:
        """Begins a job, or continues its run or the members of its ensemble."""
        from ebmtrain.runs.storage.atomic_io import remove_files

        if (path / "config.yaml").exists():
            if _read_result(path).get("status") not in _FAILED or RunDir(path).has_started():
                self._resume(path, job.name, locked)
                return
            remove_files(path, ["config.yaml", "result.json"], locked)  # it could not start
        config, choices = self.presets.compose(job)
        if find_runs(path):
            self._continue_members(job, path, config, choices)
            return
        trust = self.trust
        for result in start_job(
            config, job.overrides, choices, path, job.name, trust=trust, locked=locked
        ):
            self._note(result)

    def _continue_members(
        self, job: Job, path: Path, config: DictConfig, choices: dict[str, str]
    ) -> None:
        """Runs the members of an ensemble that are not complete, one after the other."""
        from ebmtrain.runs.ensemble import member_overrides
        from ebmtrain.runs.launch import run_experiment
        from ebmtrain.runs.report.leave_one_out import write_leave_one_out

        began, members = time.perf_counter(), build_members(config, self.trust)
        each = member_overrides(members)
        places = [path / f"{i}_{override}" for i, override in enumerate(each)]
        for member, override, place in zip(members, each, places, strict=True):
            name = f"{job.name}  {override}"
            if self._ended(place):
                continue
            with claim(place, name) as locked:
                if locked is not None and (place / "config.yaml").exists():
                    self._resume(place, name, locked)
                elif locked is not None:
                    run = partial(run_experiment, member, place, choices, quiet=True, locked=locked)
                    self._note(report_job(run, place, name))
        if each[0].startswith("without="):
            write_leave_one_out(
                path, [_read_result(p) for p in places], time.perf_counter() - began
            )

    def _resume(self, path: Path, name: str, locked: Identity) -> None:
        from ebmtrain.runs.launch import resume

        run = partial(resume, path, None, self.trust, quiet=True, locked=locked)
        self._note(report_job(run, path, name))

    def _note(self, result: Result) -> None:
        self.failed |= result["status"] in _FAILED
        if result["signal"]:
            raise TerminationSignal(result["signal"])


def _read_result(path: Path) -> Result:
    return RunDir(path).read_json("result.json")
