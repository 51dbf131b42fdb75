"""Reads untrusted run directories into entries, unreadable ones with the reason."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ebmtrain.errors import EbmtrainError
from ebmtrain.runs.report.discovery import find_links, find_runs, sort_by_job_number
from ebmtrain.runs.report.entry import EVALUATIONS, SECONDS, Entry
from ebmtrain.runs.storage.manifest import Manifest, is_sweep
from ebmtrain.runs.storage.rundir import RunDir

_STATUSES = ("finished", "diverged", "failed", "interrupted", "running")
_UNEXPLAINED = {
    "interrupted": "stopped by a signal: ebmtrain resume continues it",
    "running": "still running, or killed: ebmtrain resume reports which, and continues it",
}
_METRIC = re.compile(r"[A-Za-z][\w.@-]{0,59}", re.ASCII)
_AXES = ("step", SECONDS, EVALUATIONS)
_MAX_UPDATES, _MAX_TEXTS = 200, 100
_Row = dict[str, float]


def read_entries(folder: Path) -> list[Entry]:
    """The entries of all runs below `folder`, in order; of `folder` itself if it is a run."""
    links = set(find_links(folder))
    sweeps: dict[Path, dict[str, tuple[str, ...]]] = {}
    found = []
    paths = sort_by_job_number(folder, [*links, *find_runs(folder)])
    for path in paths or ([folder] if (folder / "config.yaml").exists() else []):
        name = printable(path.relative_to(folder).as_posix() if paths else folder.resolve().name)
        try:
            if path in links:
                raise ValueError("a link, which is not followed")
            if path.parent not in sweeps:
                sweeps[path.parent] = _job_arguments(path.parent)
            found.append(_read(RunDir.open(path), name, sweeps[path.parent].get(path.name)))
        except (EbmtrainError, OSError, ValueError) as error:
            reason = printable(str(error).replace(str(path), name))
            found.append(Entry(path=path, name=name, status="unreadable", reason=reason))
    return found


def _job_arguments(folder: Path) -> dict[str, tuple[str, ...]]:
    """The arguments of each job of a sweep by its folder; empty if this is none."""
    with suppress(EbmtrainError):
        if is_sweep(folder):
            return {job.folder: job.overrides for job in Manifest.read(folder).jobs}
    return {}


def _read(run: RunDir, name: str, arguments: Sequence[str] | None) -> Entry:
    """An entry; of a job of a sweep with its own arguments, not those of the sweep.

    Raises EbmtrainError, OSError or ValueError for files that ebmtrain does not write.
    """
    result, config = run.read_json("result.json"), run.config()
    status = result.get("status", "killed")
    if result and status not in _STATUSES:
        raise ValueError(f"result.json has no status of {', '.join(_STATUSES)}")
    metrics = _numbers(result.get("metrics", {}), "metrics in result.json")
    if result.get("metrics_step", result.get("step")) != result.get("step"):
        metrics = {}  # of an earlier step: training was interrupted or diverged after it
    reason = result.get("error") or _UNEXPLAINED.get(status, "")
    step, seconds, evaluations = (_whole(result, key) for key in _AXES)
    typed = run.read_json("run.json").get("command")
    command = typed[1:] if isinstance(typed, list) else []  # the first is the program
    curve, updates = _curves(run, set(metrics) if status == "finished" else set())
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
        curve=curve,
        updates=updates,
        warnings=_texts(result.get("warnings")),
        command=_texts(list(arguments or command)),
    )


def _curves(run: RunDir, metrics: set[str]) -> tuple[list[_Row], list[_Row]]:
    """The finite numbers of the rows of evaluations, which have some of these metrics, and of the
    other rows, at most 2 _MAX_UPDATES of them, evenly spaced."""
    evaluations: list[_Row] = []
    updates: list[_Row] = []
    n_updates, stride = 0, 1
    for row in run.iter_rows():
        if metrics & set(row):
            known = {k: v for k, v in row.items() if k in metrics or k in _AXES}
            evaluations.append(_numbers(known, "metrics.jsonl"))
            continue
        if n_updates % stride == 0:
            updates.append({k: float(v) for k, v in row.items() if _is_metric(k, v)})
        n_updates += 1
        if len(updates) > 2 * _MAX_UPDATES:
            updates, stride = updates[::2], 2 * stride
    return evaluations, updates


def _is_metric(name: str, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return bool(is_number and abs(value) < 1e300 and _METRIC.fullmatch(name))


def _texts(content: Any) -> tuple[str, ...]:
    """The texts of a list of JSON, at most _MAX_TEXTS; nothing of other content."""
    listed = content[:_MAX_TEXTS] if isinstance(content, list) else []
    return tuple(printable(text) for text in listed if isinstance(text, str))


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
