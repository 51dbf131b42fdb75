"""The tables of a report, as Markdown, for a terminal, and all runs as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from ebmtrain.evaluation.headlines import HEADLINES
from ebmtrain.runs.report.entry import EVALUATIONS, SECONDS, Entry
from ebmtrain.runs.report.labels import shared_choices
from ebmtrain.runs.report.leaderboard import COSTS, Budget, Group, Section, Spread

_HEADINGS = {**HEADLINES, "step": "steps", EVALUATIONS: "evaluations"}
_BUDGETS = {EVALUATIONS: "energy evaluations", SECONDS: "seconds"}


@dataclass(frozen=True)
class Table:
    """Cells of text; the first `left` columns are aligned to the left, the others to the right."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        marks = ["---" if i < self.left else "---:" for i in range(len(self.headings))]
        lines = [self.headings, marks, *([_escaped(cell) for cell in row] for row in self.rows)]
        parts = [f"## {_escaped(self.title)}", *map(_escaped, self.notes)]
        return "\n\n".join([*parts, "\n".join(f"| {' | '.join(line)} |" for line in lines)])

    def show(self) -> None:
        """Prints the table. Lines may be longer than the terminal and are not truncated."""
        table = RichTable(box=None, pad_edge=False)
        for i, heading in enumerate(self.headings):
            table.add_column(heading, justify="left" if i < self.left else "right")
        for row in self.rows:  # as Text: brackets in the name of a run are no markup
            table.add_row(*map(Text, row))
        print("", self.title, *self.notes, sep="\n")
        columns = zip(self.headings, *self.rows, strict=True)
        width = sum(2 * max(map(len, cells)) + 2 for cells in columns)  # letters may be wide
        Console(width=width).print(table)


def tables(board: Sequence[Section], entries: Sequence[Entry]) -> list[Table]:
    """The leaderboards, the table of all runs and the table of unfinished runs."""
    found = []
    for section in board:
        found.append(_leaderboard(section))
        found += [_equal(section, b) for b in map(section.at_equal, _BUDGETS) if b is not None]
    found.append(_runs(entries))
    if failed := [entry for entry in entries if not entry.finished]:
        rows = [[e.name, e.status, e.reason, f"{e.step:,}"] for e in failed]
        found.append(Table("Not finished", ["job", "status", "reason", "step"], rows, 3))
    return found


def _leaderboard(section: Section) -> Table:
    names = leaderboard_metrics(section)
    rows = []
    for group in section.groups:
        cells = [cell(name, group.spread(name), len(group.finished)) for name in names]
        rows.append([str(group.rank), group.label, count_finished(group), *cells])
    note = f"By {section.sort}, ascending; mean ± standard deviation over the seeds that finished."
    same = shared_choices([group.runs[0] for group in section.groups])
    notes = [note, f"The same in all: {same}"] if same else [note]
    headings = ["#", "group", "runs", *map(heading, names)]
    return Table(section.dataset, headings, rows, 2, notes)


def leaderboard_metrics(section: Section) -> list[str]:
    """The metrics of the columns of a leaderboard: those that a finished run has."""
    measured = {name for run in section.finished for name in run.numbers}
    return [name for name in dict.fromkeys([section.sort, *HEADLINES, *COSTS]) if name in measured]


def heading(metric: str) -> str:
    return _HEADINGS.get(metric, metric)


def count_finished(group: Group) -> str:
    """`3`, or `2 of 3` if a run has not finished."""
    n = len(group.finished)
    return str(n) if n == len(group.runs) else f"{n} of {len(group.runs)}"


def _equal(section: Section, budget: Budget) -> Table:
    words, metric = _BUDGETS[budget.name], heading(section.sort)
    rows = [
        [str(r.group.rank), r.group.label, str(r.value.n if r.value else 0),
         cell(section.sort, r.value, None), cell(budget.name, r.at, None)]
        for r in budget.reached
    ]  # fmt: skip
    note = (
        f"Of each run the last evaluation within {_number(budget.name, budget.limit)} {words}, "
        f"which all have reached; #{budget.set_by} went no further."
    )
    if budget.name == SECONDS:
        note += " Wall clock, with evaluations and figures."
    midway = "Longer runs were not at their end: their learning rate had not yet decayed."
    headings = ["#", "group", "runs", metric, f"{words} when measured"]
    return Table(f"{section.dataset} at equal {words}", headings, rows, 2, [note, midway])


def _runs(entries: Sequence[Entry]) -> Table:
    """One line per job."""
    names = [n for n in HEADLINES if any(n in entry.metrics for entry in entries)]
    rows = [
        [e.name, e.status, *(_number(n, e.metrics.get(n)) for n in names),
         *(_number(n, float(getattr(e, n))) for n in COSTS)]
        for e in entries
    ]  # fmt: skip
    headings = ["job", "status", *(_HEADINGS[n] for n in names), "steps", "evaluations", "seconds"]
    return Table("Runs", headings, rows, 2)


def to_csv(board: Sequence[Section], entries: Sequence[Entry]) -> str:
    """CSV with a row per run and all metrics; `group` is the label in the leaderboard."""
    of = {id(run): (s.dataset, g.label) for s in board for g in s.groups for run in g.runs}
    names = dict.fromkeys(name for entry in entries for name in sorted(entry.metrics))
    columns = [*(n for n in HEADLINES if n in names), *(n for n in names if n not in HEADLINES)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["job", "dataset", "group", "seed", "status", *columns, *COSTS, "error"])
    for e in entries:
        dataset, label = of.get(id(e), (e.dataset if e.settings else "", ""))
        values = [e.metrics.get(name, "") for name in columns]
        costs = [e.step, e.energy_evaluations, e.seconds]
        writer.writerow([e.name, dataset, label, e.seed, e.status, *values, *costs, e.reason])
    return text.getvalue()


def to_markdown(title: str, found: Sequence[Table], pictures: Sequence[str], count: str) -> str:
    images = [f"![{name}]({name})" for name in pictures]
    return "\n\n".join([f"# {_escaped(title)}", count, *(t.markdown() for t in found), *images, ""])


def status_counts(entries: Sequence[Entry]) -> str:
    """`runs: 6, of which 4 finished, 2 diverged`"""
    counts = Counter(entry.status for entry in entries).most_common()
    return f"runs: {len(entries)}, of which {', '.join(f'{n} {status}' for status, n in counts)}"


def cell(name: str, spread: Spread | None, of: int | None) -> str:
    """A cell: mean and deviation, and the number of values if it is smaller than `of`."""
    if spread is None:
        return "–"
    deviation = f" ± {_number(name, spread.std)}" if spread.n > 1 and spread.std > 0 else ""
    partly = f" ({spread.n} of {of})" if of is not None and spread.n < of else ""
    return f"{_number(name, spread.mean)}{deviation}{partly}"


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name in ("step", EVALUATIONS):
        return f"{value:,.0f}"
    if name == SECONDS:
        return f"{value:.1f}"
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.4g}"


def _escaped(text: str) -> str:
    """The text with Markdown's special characters escaped."""
    return re.sub(r"([\\`*_|<>\[\]~])", r"\\\1", text)
