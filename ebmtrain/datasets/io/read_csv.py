"""Text tables of numbers, separated by comma, semicolon, tab or spaces, with or without a
header."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ebmtrain.errors import DataError, suggestion

_MISSING = ("na", "n/a", "#n/a", "nan", "null", "none", "nil", "missing", "?", "-", ".")


class UnnamedColumnsError(DataError):
    """Columns are selected by name in a file without column names."""


class PointTable(NamedTuple):
    """Points of a file, one per row, and the names of the columns."""

    values: np.ndarray
    """(rows, columns) for a text table; any shape for a NumPy array."""
    names: tuple[str, ...] | None = None
    """Names of the columns; None: the file has none."""
    labels: tuple[str, ...] | None = None
    """Text of the label column per row; None: no label column was selected."""


def read_csv(
    path: Path, columns: Sequence[str] | None = None, label: str | None = None
) -> PointTable:
    """The numbers of a text table as float64. Blank lines and lines that begin with # are skipped.

    The first row is a header if none of its cells is a number.

    Args:
        columns: names of the columns to read, in this order; the others may hold text. None: all.
        label: name of a column of text to read as well; not among `columns`.

    Raises:
        DataError: a cell is not a finite number, or a row has another length (with its line); a
            column does not exist.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8 text") from error
    rows = _rows(path, lines)
    first = next(rows, None)
    if first is None:
        return PointTable(np.empty((0, 0)))
    number, cells = first
    width, names = len(cells), None
    if columns is None and width > 1 and not cells[0].strip():
        raise DataError(
            f"{path} line {number} begins with an empty cell, as before an index column, "
            "which would be trained on: write it without index, or name the column"
        )
    if not any(_is_number(cell) for cell in cells):
        names = [_name(cell) or f"column {j}" for j, cell in enumerate(cells, 1)]
    wanted = list(range(width)) if columns is None else _positions(path, names, columns)
    at = None if label is None else _positions(path, names, [label])[0]
    wanted = [j for j in wanted if j != at]
    values: list[list[float]] = []
    labels: list[str] = []
    for number, cells in rows if names is not None else chain([first], rows):
        if len(cells) != width:
            raise DataError(
                f"{path} line {number} has {len(cells)} columns, the first row has {width}: "
                "give all rows the same"
            )
        values.append([_number(path, number, j, cells[j], names) for j in wanted])
        if at is not None:
            labels.append(_name(cells[at]))
            if not labels[-1]:
                where = f"{path} line {number}, column {at + 1} ({label})"
                raise DataError(f"{where} is empty: fill it in or leave the row out")
    array = np.array(values, dtype=np.float64).reshape(len(values), len(wanted))
    chosen = None if names is None else tuple(names[j] for j in wanted)
    return PointTable(array, chosen, None if at is None else tuple(labels))


def _name(cell: str) -> str:
    """A column's name without control characters, which a terminal would execute."""
    return "".join(c if c.isprintable() else " " for c in cell).strip()


def _positions(path: Path, names: list[str] | None, columns: Sequence[str]) -> list[int]:
    """Positions of the columns with these names, from 0."""
    if names is None:
        raise UnnamedColumnsError(
            f"{path} begins with numbers, so its columns have no names to choose by: give it a "
            f"first row with names, or do not name {columns[0]}"
        )
    if not columns:
        raise DataError(f"no columns of {path} are chosen: name at least one")
    for name in columns:
        if name not in names:
            near = suggestion(name, names) or f"; it has {len(names)} columns"
            raise DataError(f"{path} has no column {name}: check the names{near}")
        if names.count(name) > 1 or list(columns).count(name) > 1:
            raise DataError(f"column {name} of {path} occurs twice: rename or leave out one")
    return [names.index(name) for name in columns]


def _rows(path: Path, lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line numbers, from 1, and cells of the lines that are not blank."""
    kept = [(i, s) for i, s in enumerate(lines, 1) if s.strip() and not s.startswith("#")]
    if not kept:
        return
    first, last = kept[0][1], kept[-1][1]
    delimiter = next((mark for mark in "\t;," if mark in first), None)
    if delimiter is None and len(last.split()) > 1:  # spaces, as numpy.savetxt writes them
        yield from ((number, line.split()) for number, line in kept)
        return
    delimiter = delimiter or ","
    try:
        # Line by line, so that an unclosed quote does not extend over the rest of the file.
        for number, line in kept:
            yield number, next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{path} is not a text table ({error}): save it as CSV") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # only Python reads 1_000 as a thousand


def _number(path: Path, line: int, j: int, cell: str, names: list[str] | None) -> float:
    where = f"{path} line {line}, column {j + 1}" + (f" ({names[j]})" if names else "")
    text = cell.strip()
    if not text:
        raise DataError(f"{where} is empty: fill it in or leave the row out")
    if text.lower() in _MISSING:
        raise DataError(f"{where} is {text}, a missing value: fill it in or leave the row out")
    if not _is_number(cell):
        others = ", or choose other columns" if names else ""
        raise DataError(
            f"{where} is {cell[:40]!r}, not a number: write numbers with a decimal point, "
            f"columns apart by comma, semicolon, tab or space{others}"
        )
    value = float(cell)
    if not math.isfinite(value):
        raise DataError(f"{where} is {text}: leave out rows that are not finite")
    return value
