"""report.html: one page of all runs, in one file that loads nothing.

The runs are untrusted. The template escapes every text, the data of the script are JSON in which
`<` is escaped, and the page's own policy permits this script and these styles alone, by their
SHA-256.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from ebmtrain.evaluation.headlines import HEADLINES
from ebmtrain.runs.report.collect import printable
from ebmtrain.runs.report.entry import Entry
from ebmtrain.runs.report.figures import middle_run
from ebmtrain.runs.report.leaderboard import COSTS, Group, Section
from ebmtrain.runs.report.pictures import RunPictures, read_pictures
from ebmtrain.runs.report.tables import (
    cell,
    count_finished,
    heading,
    leaderboard_metrics,
    status_counts,
)
from ebmtrain.runs.storage.rundir import relative_to_cwd
from ebmtrain.runs.summary import number_lines

PAGE = "report.html"
_MAX_CURVE_NUMBERS = 60_000
_MAX_DIFFERENCES = 60  # keys


def page(folder: Path, board: Sequence[Section], entries: Sequence[Entry]) -> bytes:
    """The page of these runs below `folder`, or of the one run that `folder` is."""
    template = _template()
    parts = {name: _block(name) for name in ("style", "script")}
    pictures = read_pictures(board, entries)
    ids = {id(entry): f"run-{i}" for i, entry in enumerate(entries)}
    groups = {id(run): (section, group) for section in board for group in section.groups
              for run in group.runs}  # fmt: skip
    runs = [
        _run(e, folder, ids[id(e)], groups.get(id(e)), len(board), pictures.get(id(e)))
        for e in entries
    ]
    known = {run["id"]: run for run in runs}
    text = template.render(
        title=printable(folder.resolve().name),
        counts=status_counts(entries),
        policy={name: _digest(content) for name, content in parts.items()},
        alone=len(entries) == 1,
        sections=[
            _section(f"data-{i}", s, [known[ids[id(r)]] for g in s.groups for r in g.runs])
            for i, s in enumerate(board)
        ],
        runs=runs,
        warnings=[(run, text) for run in runs for text in run["warnings"]],
        data=_curves(board, entries, runs),
        labels={**HEADLINES, **{name: heading(name) for name in COSTS}},
    )
    return text.encode()


@functools.cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("ebmtrain.runs.report", "."), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html")


def _block(name: str) -> str:
    """The text of a block of the template that holds no variables."""
    template = _template()
    return "".join(template.blocks[name](template.new_context()))


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _section(name: str, section: Section, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Leaderboard, pictures and differences of one data set."""
    metrics = leaderboard_metrics(section)
    spreads = [group.spread(section.sort) for group in section.groups]
    bars = _error_bars([(s.mean, s.std if s.n > 1 else 0.0) if s else None for s in spreads])
    rows = [
        {
            "rank": group.rank,
            "label": group.label,
            "names": " ".join(run.name for run in group.runs),
            "count": count_finished(group),
            "bar": bar,
            "cells": [_cell(metric, group) for metric in metrics],
        }
        for group, bar in zip(section.groups, bars, strict=True)
    ]
    best = section.groups[0]
    chosen = middle_run(best, section.sort)
    return {
        "id": name,
        "dataset": section.dataset,
        "sort": section.sort,
        "headings": [(metric, heading(metric)) for metric in metrics],
        "rows": rows,
        "best": {
            "label": best.label,
            "value": _cell(section.sort, best)["text"],
            "metric": heading(section.sort),
            "n": len(best.finished),
            "lines": number_lines(chosen.metrics, chosen.warnings, True),
            "warnings": chosen.warnings,
        },
        "runs": runs,
        "steps": sorted({step for run in runs for step, _ in run["frames"] if step is not None}),
        "differences": _differences(section.groups),
    }


def _cell(metric: str, group: Group) -> dict[str, Any]:
    spread = group.spread(metric)
    text = cell(metric, spread, len(group.finished))
    return {"value": "" if spread is None else repr(spread.mean), "text": text}


def _error_bars(spreads: Sequence[tuple[float, float] | None]) -> list[tuple[float, ...] | None]:
    """Mean minus deviation, mean, and mean plus deviation of each, as percentages of the width of a
    column; logarithmic where the means are positive and span more than a factor of 10."""
    means = [s[0] for s in spreads if s]
    log = bool(means) and min(means) > 0 and max(means) > 10 * min(means)
    ends = [
        s and tuple(math.log(max(v, 0.1 * min(means))) if log else v
                    for v in (s[0] - s[1], s[0], s[0] + s[1]))
        for s in spreads
    ]  # fmt: skip
    low = min((e[0] for e in ends if e), default=0.0)
    width = max((e[2] for e in ends if e), default=0.0) - low or 1.0
    return [e and tuple(round(4 + 92 * (v - low) / width, 2) for v in e) for e in ends]


def _differences(groups: Sequence[Group]) -> dict[str, Any]:
    """The settings in which groups differ, a row for each group."""
    settings = [group.runs[0].settings for group in groups]
    keys = dict.fromkeys(key for each in settings for key in each)
    differ = [k for k in keys if len({each.get(k) for each in settings}) > 1]
    rows = [
        (group, [printable(each.get(key, "–"), 100) for key in differ[:_MAX_DIFFERENCES]])
        for group, each in zip(groups, settings, strict=True)
    ]
    hidden = max(0, len(differ) - _MAX_DIFFERENCES)
    return {"keys": differ[:_MAX_DIFFERENCES], "rows": rows, "hidden": hidden}


def _run(
    entry: Entry,
    folder: Path,
    name: str,
    place: tuple[Section, Group] | None,
    n_sections: int,
    pictures: RunPictures | None,
) -> dict[str, Any]:
    """All that the page says of one run."""
    label = place[1].label if place else ""
    title = f"#{place[1].rank} {label} seed {entry.seed}" if place else entry.name
    own = entry.path / PAGE
    has_page = entry.path != folder and entry.status != "unreadable" and own.is_file()
    trains = entry.choices.get("dataset", "") != "" or bool(entry.updates)
    return {
        "id": name,
        "entry": entry,
        "label": label,
        "title": f"{place[0].dataset} {title}" if place and n_sections > 1 else title,
        "dataset": place[0].dataset if place else None,
        "rank": place[1].rank if place else None,
        "search": " ".join([entry.name, label, entry.status, place[0].dataset if place else "",
                            *(f"{k}={v}" for k, v in entry.choices.items())]),
        "lines": number_lines(entry.metrics, entry.warnings, trains) if entry.finished else [],
        "warnings": entry.warnings,
        "repeat": f"ebmtrain {shlex.join(entry.command)}".strip() if entry.settings else "",
        "resume": _resume_command(entry),
        "page": quote(own.relative_to(folder).as_posix()) if has_page else "",
        "frames": pictures.frames if pictures else [],
        "figures": pictures.figures if pictures else [],
    }  # fmt: skip


def _resume_command(entry: Entry) -> str:
    """Empty for a run without updates, and for a path that cannot be typed."""
    path = str(relative_to_cwd(entry.path))
    if entry.status == "unreadable" or not path.isprintable() or not (entry.step or entry.updates):
        return ""
    more = f" train.steps={2 * entry.step}" if entry.finished else ""
    return f"ebmtrain resume {shlex.quote(path)}{more}"


def _curves(
    board: Sequence[Section], entries: Sequence[Entry], runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The data of the script: columns of the numbers of each run, frames of each run but the last,
    which is in the page already, and the metrics."""
    tables = [[entry.curve, entry.updates] for entry in entries]
    names = dict.fromkeys(
        name for rows in tables for table in rows for row in table for name in row
    )
    metrics = [m for m in [*HEADLINES, *names] if m in names and m not in COSTS]
    metrics = list(dict.fromkeys([*(s.sort for s in board if s.sort in metrics), *metrics]))
    limit = max(10, _MAX_CURVE_NUMBERS // max(1, len(names) * len(entries)))
    return {
        "metrics": metrics,
        "runs": [
            {
                "id": run["id"],
                "colour": (run["rank"] or 1) - 1,
                "label": run["title"],
                "first": not board or run["dataset"] in (board[0].dataset, None),
                "tables": [_columns(table, limit) for table in both if table],
                "frames": [[step, uri] for step, uri in run["frames"][:-1]],
                "last": run["frames"][-1][0] if run["frames"] else None,
            }
            for run, both in zip(runs, tables, strict=True)
        ],
    }  # fmt: skip


def _columns(rows: Sequence[Mapping[str, float]], limit: int) -> dict[str, list[float | None]]:
    """At most `limit` rows, evenly spaced with the last, as columns of four significant digits."""
    stride = math.ceil(len(rows) / limit)
    kept = rows[(len(rows) - 1) % stride :: stride]
    names = dict.fromkeys(name for row in kept for name in row)
    return {n: [float(f"{row[n]:.4g}") if n in row else None for row in kept] for n in names}
