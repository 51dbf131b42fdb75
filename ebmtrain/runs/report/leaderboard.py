"""Ranked groups of runs with mean and standard deviation over seeds.

Only finished runs enter the numbers, next to which the number of unfinished ones is shown: a method
may diverge for two seeds of three. Only runs on the same data distribution are compared.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ebmtrain.errors import ConfigError, suggestion
from ebmtrain.evaluation.headlines import HEADLINES
from ebmtrain.runs.report.entry import EVALUATIONS, SECONDS, Entry
from ebmtrain.runs.report.labels import group_labels

COSTS = ("step", EVALUATIONS, SECONDS)


class Spread(NamedTuple):
    """Mean and sample standard deviation of `n` numbers; the latter is NaN where n = 1."""

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None of no values."""
        std = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), std, len(values)) if values else None


def _order(spread: Spread | None) -> tuple[bool, float]:
    """Sort key: the mean, missing values last."""
    return spread is None, 0.0 if spread is None else spread.mean


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only; `rank` counts from 1 in its section."""

    label: str
    runs: Sequence[Entry]
    rank: int = 0

    @property
    def finished(self) -> list[Entry]:
        return [run for run in self.runs if run.finished]

    def spread(self, metric: str) -> Spread | None:
        """Over the finished runs with this metric; None if there is none."""
        return Spread.of([r.numbers[metric] for r in self.finished if metric in r.numbers])


class _BudgetRow(NamedTuple):
    """The result of a group within a budget."""

    group: Group
    value: Spread | None
    at: Spread | None
    """The cost at which it was measured."""


class Budget(NamedTuple):
    """Groups at the largest budget that all finished runs reach."""

    name: str
    """energy_evaluations or seconds"""
    limit: float
    set_by: int
    """The rank of the group with the smallest budget."""
    reached: Sequence[_BudgetRow]


@dataclass(frozen=True)
class Section:
    """The runs of one data set, best group first."""

    dataset: str
    sort: str
    groups: Sequence[Group]

    @property
    def finished(self) -> list[Entry]:
        return [run for group in self.groups for run in group.finished]

    def at_equal(self, budget: str) -> Budget | None:
        """The sort metric at equal budgets: of each run the last evaluation within the budget and
        after the first update. None if there is nothing to compare."""
        curves = [
            (g, rows) for g in self.groups for r in g.finished if (rows := self._rows(r, budget))
        ]
        if len({group.rank for group, _ in curves}) < 2:
            return None
        limit, rank = min((rows[-1][budget], group.rank) for group, rows in curves)
        reached = []
        for group in self.groups:
            within = [[r for r in rows if r[budget] <= limit] for g, rows in curves if g is group]
            last = [rows[-1] for rows in within if rows and self.sort in rows[-1]]
            value, at = (Spread.of([row[key] for row in last]) for key in (self.sort, budget))
            reached.append(_BudgetRow(group, value, at))
        return Budget(budget, limit, rank, sorted(reached, key=lambda r: _order(r.value)))

    def _rows(self, run: Entry, budget: str) -> list[Mapping[str, float]]:
        """The evaluations after the first update in the order of their cost; [] if none has the
        sort metric. An evaluation that leaves out KL still has another headline."""
        names = HEADLINES if self.sort in HEADLINES else (self.sort,)
        rows = [row for row in run.curve if budget in row and row.get("step", 1) >= 1]
        rows = [row for row in rows if any(name in row for name in names)]
        measured = any(self.sort in row for row in rows)
        return sorted(rows, key=lambda row: row[budget]) if measured else []


def curve_points(run: Entry, x: str, y: str) -> list[tuple[float, float]]:
    """(x, y) of the evaluations that have both, in the order of x."""
    return sorted((row[x], row[y]) for row in run.curve if x in row and y in row)


def sections(entries: Sequence[Entry], sort: str | None = None) -> list[Section]:
    """One per data set.

    Args:
        sort: a metric, ascending; None: KL, else regret, else NLL.

    Raises:
        ConfigError: no finished run has that metric.
    """
    known = {name for entry in entries if entry.finished for name in entry.numbers}
    if sort is not None and sort not in known:
        raise ConfigError(f"no finished run has the metric {sort}{suggestion(sort, known)}")
    by_data: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for entry in entries:
        if entry.settings:
            by_data.setdefault(entry.data_settings, []).append(entry)
    # A data set without a finished run has nothing to compare.
    boards = [runs for runs in by_data.values() if any(run.finished for run in runs)]
    return [_section(name, runs, sort) for name, runs in zip(_names(boards), boards, strict=True)]


def _names(boards: Sequence[Sequence[Entry]]) -> list[str]:
    """Names of data sets, with the settings in which data sets of equal names differ."""
    found = []
    for runs in boards:
        first = runs[0]
        others = [dict(b[0].data_settings) for b in boards if b[0].dataset == first.dataset]
        differ = [f"{k}={v}" for k, v in first.data_settings if any(o.get(k) != v for o in others)]
        found.append(" ".join([first.dataset, *differ]))
    return found


def _section(dataset: str, runs: Sequence[Entry], sort: str | None) -> Section:
    same: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for run in runs:
        same.setdefault(tuple(sorted(run.settings.items())), []).append(run)
    labels = group_labels([members[0] for members in same.values()])
    groups = [Group(label, members) for label, members in zip(labels, same.values(), strict=True)]
    measured = {name for run in runs if run.finished for name in run.metrics}
    by = sort or next((name for name in HEADLINES if name in measured), "step")
    ranked = enumerate(sorted(groups, key=lambda group: _order(group.spread(by))), 1)
    return Section(dataset, by, [replace(group, rank=rank) for rank, group in ranked])
