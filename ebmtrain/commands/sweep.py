"""`ebmtrain -m`: many jobs, of which none stops the others, and one table at the end."""

from __future__ import annotations

import csv
import io
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from ebmtrain import presets

COLUMNS = {"kl": "KL", "regret": "regret", "nll": "NLL"}


@dataclass
class Sweep:
    """One sweep's directory and what it is to hold."""

    path: Path
    jobs: list[list[str]]

    @property
    def first_job(self) -> list[str]:
        return self.jobs[0]

    def keep_presets(self, snapshot: Path) -> None:
        """The YAML files that all jobs are composed from, for the record."""
        shutil.copytree(snapshot, self.path / "presets", dirs_exist_ok=True)

    def results(self) -> list[dict[str, Any]]:
        """One per job directory, in the order of the jobs."""
        found = []
        for path in self.path.glob("*/result.json"):
            result = json.loads(path.read_text(encoding="utf-8"))
            found.append({"job": path.parent.name, **result})
        return sorted(found, key=lambda r: number(r["job"]))

    def tidy(self) -> None:
        """A sweep of which no job ran (its words did not fit) leaves nothing behind."""
        if self.path.is_dir() and not any(self.path.glob("*/config.yaml")) and not self.results():
            shutil.rmtree(self.path)

    def report(self) -> int:
        """Prints the table, writes summary.csv; 1 if a job failed."""
        results = self.results()
        failed = [r for r in results if r["status"] != "finished"]
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
        print(f"sweep    {self.path}  ({len(results)} jobs, {len(failed)} failed)")
        return 1 if failed or len(results) < len(self.jobs) else 0


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
        raise KeyboardInterrupt
