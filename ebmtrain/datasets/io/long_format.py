"""Sequences from a table in long format, whose rows are steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ebmtrain.datasets.io.point_table import PointTable
from ebmtrain.errors import DataError

_TIME_TOLERANCE = 1e-6  # relative to the span of the times


class LongColumns(NamedTuple):
    """Names of the two columns that identify the step of a row."""

    id: str
    """Column of the sequence's identifier, a number or a word."""
    time: str
    """Column of the time."""


def to_sequences(
    path: str, table: PointTable, long: LongColumns, ragged: bool = False
) -> np.ndarray:
    """Sequences, (n, length, channels) float64, in order of first appearance, each sorted by time.

    There is one channel per column other than `long`. Shorter sequences end with NaN.

    Args:
        path: of the file, for messages.
        table: with `long.id` as its labels and `long.time` among its columns.
        ragged: allow sequences of different lengths.

    Raises:
        DataError: a column is missing, a step occurs twice, a sequence has other times than the
            longest one, or the lengths differ without `ragged`.
    """
    assert table.names is not None
    assert table.labels is not None
    if long.time not in table.names:
        raise DataError(f"{path} has no column {long.time} of times: name another one")
    at = table.names.index(long.time)
    if len(table.names) < 2:
        raise DataError(f"{path} has no column besides {long.id} and {long.time}: add the values")
    ids = list(dict.fromkeys(table.labels))
    place = {name: i for i, name in enumerate(ids)}
    which = np.array([place[name] for name in table.labels], dtype=np.int64)
    order = np.lexsort((table.values[:, at], which))
    which, rows = which[order], table.values[order]
    lengths = np.bincount(which, minlength=len(ids))
    twice = np.flatnonzero((np.diff(which) == 0) & (np.diff(rows[:, at]) == 0))
    if len(twice):
        i = twice[0]
        step = f"{long.time} {rows[i, at]:.12g} of {long.id} {ids[which[i]]}"
        raise DataError(f"{path} has {step} twice: leave one out")
    other = np.flatnonzero(lengths != lengths[:1])
    if len(other) and not ragged:
        raise DataError(
            f"{path} has {lengths[0]} steps of {long.id} {ids[0]} and {lengths[other[0]]} of "
            f"{ids[other[0]]}: give all sequences the same length"
        )
    if not ids:
        return np.empty((0, 0, len(table.names) - 1))
    step = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    whole = np.full((len(ids), lengths.max(), len(table.names)), np.nan)
    whole[which, step] = rows
    _check_times(path, ids, whole[:, :, at], long)
    return np.delete(whole, at, axis=2)


def _check_times(path: str, ids: list[str], t: np.ndarray, long: LongColumns) -> None:
    """Refuses sequences with different times at the same step: models do not see the times.

    Args:
        t: (n, length), NaN after the end of a sequence.
    """
    longest = int(np.argmin(np.isnan(t).sum(1)))
    tolerance = _TIME_TOLERANCE * max(np.ptp(t[longest]), 1e-300)
    off = np.abs(t - t[longest]) > tolerance  # NaN compares false
    if off.any():
        i, step = np.unravel_index(int(np.argmax(off)), off.shape)
        one, other = (f"{long.id} {ids[j]} at {long.time} {t[j, step]:.12g}" for j in (i, longest))
        raise DataError(
            f"{path} has step {step + 1} of {one}, of {other}: give all sequences the same times"
        )
