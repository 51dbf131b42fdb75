"""Reads untrusted run directories into entries, unreadable ones with the reason."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebmtrain.errors import EbmtrainError
from ebmtrain.runs.report.discovery import find_links, find_runs, sort_by_job_number
from ebmtrain.runs.report.entry import EVALUATIONS, SECONDS, Entry
from ebmtrain.runs.storage.rundir import RunDir

_STATUSES = ("finished", "diverged", "failed", "interrupted", "running")
_UNEXPLAINED = {
    "interrupted": "stopped by a signal: ebmtrain resume continues it",
    "running": "still running, or killed: ebmtrain resume reports which, and continues it",
}
_METRIC = re.compile(r"[A-Za-z][\w.@-]{0,59}", re.ASCII)
_AXES = ("step", SECONDS, EVALUATIONS)


def read_entries(folder: Path) -> list[Entry]:
    """The entries of all runs below `folder`, in order."""
    links = set(find_links(folder))
    found = []
    for path in sort_by_job_number(folder, [*links, *find_runs(folder)]):
        name = printable(path.relative_to(folder).as_posix())
        try:
            if path in links:
                raise ValueError("a link, which is not followed")
            found.append(_read(RunDir.open(path), name))
        except (EbmtrainError, OSError, ValueError) as error:
            reason = printable(str(error).replace(str(path), name))
            found.append(Entry(path=path, name=name, status="unreadable", reason=reason))
    return found


def _read(run: RunDir, name: str) -> Entry:
    """Raises EbmtrainError, OSError or ValueError for files that ebmtrain does not write."""
    result, config = run.read_json("result.json"), run.config()
    status = result.get("status", "killed")
    if result and status not in _STATUSES:
        raise ValueError(f"result.json has no status of {', '.join(_STATUSES)}")
    metrics = _numbers(result.get("metrics", {}), "metrics in result.json")
    if result.get("metrics_step", result.get("step")) != result.get("step"):
        metrics = {}  # of an earlier step: training was interrupted or diverged after it
    reason = result.get("error") or _UNEXPLAINED.get(status, "")
    step, seconds, evaluations = (_whole(result, key) for key in _AXES)
    return Entry(
        path=run.path,
        name=name,
        status=status,
        reason=printable(str(reason)) if result else "it left no result.json",
        choices={
            k: v for k, v in run.group_choices().items() if v != "None" and _METRIC.fullmatch(k)
        },
        settings=_settings(config),
        seed=printable(str(config.get("seed", ""))),
        step=int(step),
        seconds=seconds,
        energy_evaluations=int(evaluations),
        metrics=metrics,
        curve=_curve(run, set(metrics)) if status == "finished" else (),
    )


def _curve(run: RunDir, metrics: set[str]) -> list[dict[str, float]]:
    """The finite numbers of the rows of evaluations."""
    return [
        _numbers({k: v for k, v in row.items() if k in metrics or k in _AXES}, "metrics.jsonl")
        for row in run.iter_rows()
        if metrics & set(row)
    ]


def _numbers(content: Any, where: str) -> dict[str, float]:
    """Finite numbers by name, without lists and null. Raises ValueError for other content."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} are no mapping")
    found = {}
    for name, value in content.items():
        if not _METRIC.fullmatch(name):
            raise ValueError(f"{where} have a name that ebmtrain gives to none")
        if value is None or isinstance(value, list):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{where}: {name} is no number")
        if abs(value) < 1e300 and math.isfinite(value):  # integers of JSON know no bound
            found[name] = float(value)
    return found


def _whole(result: Mapping[str, Any], key: str) -> float:
    """A cost, finite and not negative; 0 if it is missing. Raises ValueError for other content."""
    value = _numbers({key: result.get(key)}, "result.json").get(key, 0.0)
    if value < 0:
        raise ValueError(f"result.json: {key} is negative")
    return value


def _settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and their values as text, without seeds and without the sections that only set
    what is written and when."""
    found: dict[str, str] = {}
    for key, value in config.items():
        dotted = f"{prefix}{printable(str(key))}"
        if key == "seed" or dotted in ("plots", "checkpoint", "tracker"):
            continue
        if isinstance(value, Mapping) and value:
            found |= _settings(value, f"{dotted}.")
        else:
            found[dotted] = printable("null" if value is None else str(value))
    return found


def printable(text: str, longest: int = 1000) -> str:
    """One line without control characters, for a terminal or a table."""
    line = " ".join(text[: 4 * longest].split())
    return "".join(c if c.isprintable() else "?" for c in line)[:longest]
