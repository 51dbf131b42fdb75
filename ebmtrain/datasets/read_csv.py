"""Tables of numbers in text: commas, semicolons, tabs or spaces, with or without a header."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ebmtrain.errors import DataError


def read_csv(path: Path) -> np.ndarray:
    """(rows, columns) float64. Blank lines and lines that begin with # are skipped.

    The first row is a header if none of its cells is a number.

    Raises:
        DataError: a cell is not a finite number, or a row has another length (with its line).
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8 text") from error
    rows: list[list[float]] = []
    width = None
    for number, cells in _rows(path, lines):
        if width is None:
            width = len(cells)
            if width > 1 and not cells[0].strip():
                raise DataError(
                    f"{path} line {number} begins with an empty cell, as before an index column, "
                    "which would be trained on: write it without index, or name the column"
                )
            if not any(_is_number(cell) for cell in cells):
                continue
        if len(cells) != width:
            raise DataError(
                f"{path} line {number} has {len(cells)} columns, the first row has {width}: "
                "give all rows the same"
            )
        rows.append([_number(path, number, j, cell) for j, cell in enumerate(cells, 1)])
    return np.array(rows, dtype=np.float64).reshape(len(rows), width or 0)


def _rows(path: Path, lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line numbers from 1, and cells, of the lines that hold something."""
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
        # Line by line, so that an unclosed quote cannot swallow the rest of the file.
        for number, line in kept:
            yield number, next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{path} is no table of text ({error}): save it as CSV") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_000 as a thousand, no other program does


def _number(path: Path, line: int, column: int, cell: str) -> float:
    where = f"{path} line {line}, column {column}"
    if not cell.strip():
        raise DataError(f"{where} is empty: fill it in or leave the row out")
    if not _is_number(cell):
        raise DataError(
            f"{where} is {cell[:40]!r}, not a number: write numbers with a decimal point, "
            "columns apart by comma, semicolon, tab or space"
        )
    value = float(cell)
    if not math.isfinite(value):
        raise DataError(f"{where} is {cell.strip()}: leave out rows that are not finite")
    return value
