"""`ebmtrain -m`: many jobs, of which none stops the others, and one table at the end."""

from __future__ import annotations

import csv
import io
import json
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
from rich.console import Console
from rich.table import Table

from ebmtrain import presets
from ebmtrain.errors import ConfigError
from ebmtrain.signals import Asked

PRESETS = "presets"  # folder of a sweep
COLUMNS = {"kl": "KL", "regret": "regret", "nll": "NLL"}


@dataclass
class Sweep:
    """One sweep's directory, which was not there or empty before, and what it is to hold.

    Raises:
        ConfigError: there is something in it.
    """

    path: Path
    jobs: list[list[str]]

    def __post_init__(self) -> None:
        if self.runs():
            raise ConfigError(f"{self.path} holds a sweep already: choose another hydra.sweep.dir")
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise ConfigError(
                f"{self.path} is there and not an empty folder: choose another hydra.sweep.dir"
            )

    @property
    def first_job(self) -> list[str]:
        return self.jobs[0]

    def keep_presets(self, snapshot: Path) -> None:
        """The YAML files that all jobs are composed from, for the record."""
        shutil.copytree(snapshot, self.path / PRESETS)

    def runs(self) -> list[Path]:
        """The directories of the jobs that began, at any depth: hydra.sweep.subdir may nest them.
        In the order of the jobs."""
        found = {
            file.parent
            for name in ("config.yaml", "result.json")
            for file in self.path.rglob(name)
            if file.relative_to(self.path).parts[0] != PRESETS
        }
        names = {path: path.relative_to(self.path).as_posix() for path in found}
        return sorted(found, key=lambda path: (number(names[path]), names[path]))

    def results(self) -> list[dict[str, Any]]:
        """One per job, in their order; a job that was killed has none."""
        found = []
        for path in self.runs():
            if (path / "result.json").exists():
                result = json.loads((path / "result.json").read_text(encoding="utf-8"))
                found.append({"job": path.relative_to(self.path).as_posix(), **result})
        return found

    def tidy(self) -> None:
        """A sweep of which no job began (its words did not fit) leaves nothing behind: what this
        call and Hydra have put there goes, and then folders that are empty."""
        if not self.path.is_dir() or self.runs():
            return
        shutil.rmtree(self.path / PRESETS, ignore_errors=True)
        (self.path / "multirun.yaml").unlink(missing_ok=True)
        for folder, _, _ in os.walk(self.path, topdown=False):
            with suppress(OSError):  # not empty
                Path(folder).rmdir()

    def report(self) -> int:
        """Prints the table, writes summary.csv; 1 if a job failed."""
        results = self.results()
        failed = [r for r in results if r["status"] not in ("finished", "interrupted")]
        columns = [name for name in COLUMNS if any(name in r["metrics"] for r in results)]
        table = Table(title=None, box=None, pad_edge=False)
        for heading in ("job", "status", *[COLUMNS[c] for c in columns], "steps", "seconds"):
            table.add_column(heading, justify="left" if heading in ("job", "status") else "right")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["job", "status", *columns, "step", "seconds", "error"])
        for r in results:
            values = [r["metrics"].get(c) for c in columns]
            shown = ["" if v is None else f"{v:.4f}" for v in values]
            table.add_row(r["job"], r["status"], *shown, str(r["step"]), f"{r['seconds']:.1f}")
            writer.writerow(
                [r["job"], r["status"], *values, r["step"], r["seconds"], r["error"] or ""]
            )
        (self.path / "summary.csv").write_text(text.getvalue(), encoding="utf-8")
        width = 40 + sum(max(len(str(c)) for c in column.cells) for column in table.columns)
        Console(width=width).print(table)  # lines may be longer than the terminal, never cut
        missing = len(results) < len(self.jobs)
        count = f"{len(results)} of {len(self.jobs)}" if missing else len(results)
        print(f"sweep    {self.path}  ({count} jobs, {len(failed)} failed)")
        return 1 if failed or missing else 0


def number(name: str) -> int:
    """Job directories begin with the job's number."""
    head = name.split("_", 1)[0]
    return int(head) if head.isdigit() else -1


def plan(config: DictConfig) -> Sweep:
    """What a composed multirun is about to do, with Hydra's basic sweeper."""
    words = [f"{k}={v}" for k, v in (config.hydra.sweeper.get("params") or {}).items()]
    words += list(config.hydra.overrides.task)
    overrides = OverridesParser.create().parse_overrides(words)
    jobs = BasicSweeper.split_arguments(overrides, None)[0]
    return Sweep(Path(config.hydra.sweep.dir), jobs)


def run_job(config: DictConfig, choices: dict[str, str], path: Path, settings: Any) -> None:
    """One job: what goes wrong is written into its own result.json, and the next one starts."""
    from ebmtrain.build import build
    from ebmtrain.display import say
    from ebmtrain.run import begin, record_failure

    began = time.perf_counter()
    words = " ".join(settings.overrides.task)
    try:
        result = begin(build(presets.plain(config)), path, choices, quiet=True)
    except Exception as error:  # whatever it was, the other jobs are not to suffer for it
        result = record_failure(path, presets.plain(config), error)
    seconds = time.perf_counter() - began
    shown = "  ".join(
        f"{label} {result['metrics'][name]:.4f}"
        for name, label in COLUMNS.items()
        if result["metrics"].get(name) is not None
    )
    outcome = shown or result["status"]
    if result["error"]:
        outcome = f"{result['status']}: {str(result['error']).splitlines()[0]}"
    say(f"job {settings.job.num}  {words}  {outcome}  {seconds:.1f} s")
    if result.get("signal"):
        raise Asked(result["signal"])  # and with the job the sweep
