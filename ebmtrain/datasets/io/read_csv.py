"""Text tables of numbers, separated by comma, semicolon, tab or spaces, with or without a
header."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ebmtrain.datasets.io.memory import check_memory
from ebmtrain.datasets.io.numeric_header import is_header
from ebmtrain.datasets.io.point_table import (
    PointTable,
    UnnamedColumnsError,
    columns_option,
    positions,
    printable,
    refuse_index,
)
from ebmtrain.errors import DataError

_ERRORS = ("#n/a", "#value!", "#div/0!", "#ref!", "#num!", "#name?", "#null!")  # of a spreadsheet
_MISSING = (
    "na", "n/a", "<na>", "nan", "nat", "null", "none", "nil", "missing", "unknown", "?", "-", "--",
    "---", ".", "*", *_ERRORS,
)  # fmt: skip
_GZIP = b"\x1f\x8b"
_COPIES_OF_TEXT = 4  # the bytes, the decoded text, its lines


class _Text(NamedTuple):
    """The lines of a table that are not blank and not comments."""

    path: Path
    lines: list[str]
    delimiter: str | None
    """None: spaces."""

    def cells(self, i: int) -> list[str]:
        """The cells of a line, in which every quote must be closed."""
        words = self.lines[i].split()
        if self.delimiter is None and '"' not in self.lines[i]:
            return words
        line = self.lines[i] if self.delimiter else " ".join(words)
        try:
            return next(csv.reader([line], delimiter=self.delimiter or " ", strict=True))
        except csv.Error as error:
            raise DataError(
                f"{self.path} is not a text table ({error} in {line[:40]!r}): save it as CSV"
            ) from error


def read_csv(
    path: Path,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    header: bool | None = None,
) -> PointTable:
    """The numbers of a text table as float64. Blank lines and lines that begin with # are skipped.

    Args:
        path: a file that may be compressed by gzip.
        columns: names of the columns to read, in this order; the others may hold text. None: all.
        label: name of a column of text to read as well; not among `columns`.
        header: True: the first row holds names, False: numbers. None: names if none of its cells
            is a number, or if they are the whole numbers 0, 1, 2, ... above other numbers.

    Raises:
        AmbiguousHeaderError: the first row may hold names or a point, and `header` is None.
        DataError: a cell is not a finite number, or a row has another length (with its line); a
            column does not exist; the first column is an index, and all columns are read.
    """
    every = _read_lines(path)
    kept = [line for line in every if _is_row(line)]
    if not kept:
        return PointTable(np.empty((0, 0)))
    text = _Text(path, kept, _delimiter(kept))
    names = _names(text, columns, header)
    width = len(text.cells(0) if names is None else names)
    wanted = list(range(width)) if columns is None else _positions(text, names, columns)
    at = None if label is None else _positions(text, names, [label])[0]
    wanted = [j for j in wanted if j != at]
    first = 0 if names is None else 1
    if names is not None and kept[0] in kept[1:]:
        line = _line_number(every, kept.index(kept[0], 1))
        raise DataError(f"{path} line {line} repeats the names of the columns: leave it out")
    table = _parse_fast(text, first, width, wanted, at)
    if table is None:
        table = _parse_cells(text, first, names, width, wanted, at, every)
    if names is None and header is None and is_header(path, text.cells(0), table.values):
        return read_csv(path, columns, label, True)._replace(notes=(_header_note(text),))
    return table._replace(names=None if names is None else tuple(names[j] for j in wanted))


def _read_lines(path: Path) -> list[str]:
    """All lines of the file. A larger file than the memory holds is refused before it is read."""
    check_memory(path, _COPIES_OF_TEXT * path.stat().st_size)
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP):
            data = _unzip(path, data)
        text = data.decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} cannot be unpacked ({error}): write it again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8 text") from error
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.split("\n")


def _unzip(path: Path, data: bytes) -> bytes:
    parts, size = [], 0
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        while chunk := stream.read(1 << 24):
            parts.append(chunk)
            size += len(chunk)
            check_memory(path, _COPIES_OF_TEXT * size)
    return b"".join(parts)


def _delimiter(lines: list[str]) -> str | None:
    mark = next((mark for mark in "\t;," if mark in lines[0]), None)
    # Spaces, as numpy.savetxt writes them; a single column has no delimiter.
    return mark or (None if len(lines[-1].split()) > 1 else ",")


def _names(text: _Text, columns: Sequence[str] | None, header: bool | None) -> list[str] | None:
    """The names of the columns; None: the first row is a point."""
    cells = text.cells(0)
    bare = [printable(cell) for cell in cells]
    if header is None:
        numbers = [_is_number(cell) for cell in cells]
        missing = all(not cell or cell.lower() in _MISSING for cell in bare)
        header = not any(numbers) and not missing and not any(map(_NUMBER_LIKE.fullmatch, bare))
        # Columns are chosen by the numbers in the first row.
        header |= all(numbers) and columns is not None and set(columns) <= set(bare)
    second = text.cells(1) if len(text.lines) > 1 else []
    if header and len(second) == len(cells) + 1:
        bare = ["", *bare]  # R's row names
    if columns is None:
        refuse_index(text.path, bare)
    return [name or f"column {j}" for j, name in enumerate(bare, 1)] if header else None


_NUMBER_LIKE = re.compile(r"[-+(]?[$€£¥]?\s?\d[\d.,' _]*\s?[%)]?")


def _header_note(text: _Text) -> str:
    cells = text.cells(0)
    shown = ", ".join(cells[:3]) + (", ..." if len(cells) > 3 else "")
    return (
        f"the first row of {text.path} ({shown}) is read as the names of the columns: "
        "dataset.header=false if it is a point"
    )


def _positions(text: _Text, names: list[str] | None, columns: Sequence[str]) -> list[int]:
    if names is None and columns:
        raise UnnamedColumnsError(
            f"{text.path} begins with numbers, so its columns have no names to choose by: give it "
            f"a first row with names, or do not name {columns[0]}; dataset.header=true if its "
            "first row holds names"
        )
    return positions(text.path, names or [], columns)


def _parse_fast(
    text: _Text, first: int, width: int, wanted: list[int], at: int | None
) -> PointTable | None:
    """The table by NumPy's reader in C; None: a cell is not a finite number, a quote is not closed
    in its line, or rows may be of different lengths."""
    lines = text.lines[first:]
    quoted = any('"' in line for line in lines)
    if not lines or not wanted or (quoted and any(line.count('"') % 2 for line in lines)):
        return None
    selects = len(wanted) < width
    if selects and text.delimiter and any(s.count(text.delimiter) != width - 1 for s in lines):
        return None
    if selects and not text.delimiter and any(len(s.split()) != width for s in lines):
        return None
    try:
        values = np.loadtxt(
            lines,
            delimiter=text.delimiter,
            comments=None,
            quotechar='"' if quoted else None,
            usecols=wanted if selects or wanted != sorted(wanted) else None,
            ndmin=2,
        )
    except ValueError:
        return None
    if values.shape != (len(lines), len(wanted)) or not np.isfinite(values).all():
        return None
    if at is None:
        return PointTable(values)
    rows = range(first, len(text.lines))
    words = (text.cells(i) if quoted else text.lines[i].split(text.delimiter) for i in rows)
    labels = tuple(printable(cells[at]) for cells in words)
    return PointTable(values, labels=labels) if all(labels) else None


def _parse_cells(
    text: _Text,
    first: int,
    names: list[str] | None,
    width: int,
    wanted: list[int],
    at: int | None,
    every: list[str],
) -> PointTable:
    """The table cell by cell, with messages that name the line and the column."""
    values, labels = [], []
    for i in range(first, len(text.lines)):
        cells = text.cells(i)
        place = _Place(text.path, i, every, names, cells)
        if len(cells) != width:
            raise DataError(
                f"{place.line()} has {len(cells)} columns, the first row has {width}: "
                "give all rows the same"
            )
        values.append([_number(cells[j], place, j) for j in wanted])
        if at is not None:
            labels.append(printable(cells[at]))
            if not labels[-1]:
                raise DataError(f"{place.cell(at)} is empty: fill it in or leave the row out")
    array = np.array(values, dtype=np.float64).reshape(len(values), len(wanted))
    return PointTable(array, labels=None if at is None else tuple(labels))


class _Place(NamedTuple):
    """A row of the table, for messages."""

    path: Path
    row: int
    every: list[str]
    names: list[str] | None
    cells: list[str]

    def line(self) -> str:
        return f"{self.path} line {_line_number(self.every, self.row)}"

    def cell(self, j: int) -> str:
        return f"{self.line()}, column {j + 1}" + (f" ({self.names[j]})" if self.names else "")

    def remedy(self) -> str:
        """The end of a message about a cell that is no number."""
        cells = zip(self.names or [""] * len(self.cells), self.cells, strict=True)
        numeric = [name for name, cell in cells if name and _is_number(cell)]
        rest = f", or leave the column out by {columns_option(numeric)}" if numeric else ""
        return rest + "; dataset.header=true if the first row holds names" * (self.row == 0)


def _is_row(line: str) -> bool:
    """True unless a line is blank or a comment; a spreadsheet's errors, #N/A, begin like one."""
    if line.startswith("sep=") and len(line) == 5:  # a spreadsheet's hint
        return False
    if line.startswith("#"):
        return line.lower().startswith(_ERRORS)
    return bool(line.strip())


def _line_number(every: list[str], row: int) -> int:
    """The line, from 1, of a row, from 0, that is not blank and not a comment."""
    kept = (i for i, line in enumerate(every, 1) if _is_row(line))
    return next(i for k, i in enumerate(kept) if k == row)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # only Python reads 1_000 as a thousand


def _number(cell: str, place: _Place, j: int) -> float:
    text = cell.strip()
    if _is_number(cell) and math.isfinite(value := float(cell)):
        return value
    where = place.cell(j)
    if not text or text.lower() in _MISSING:
        what = f"{text}, a missing value" if text else "empty"
        raise DataError(f"{where} is {what}: fill it in or leave the row out{place.remedy()}")
    if _is_number(cell):
        raise DataError(f"{where} is {text}: leave out rows that are not finite")
    remedy = next(remedy for pattern, remedy in _REMEDIES if pattern.fullmatch(text))
    raise DataError(f"{where} is {cell[:40]!r}, not a number: {remedy}{place.remedy()}")


_REMEDIES = (
    (re.compile("true|false|yes|no|t|f", re.IGNORECASE), "write 1 and 0"),
    (re.compile(r"[-+]?\d+,\d+"), "write numbers with a decimal point, and no comma in thousands"),
    (
        re.compile(r"[-+]?\d{1,3}([,.' ]\d{3})+([.,]\d+)?"),
        "write numbers with a decimal point and without separators of thousands",
    ),
    (
        re.compile(r".*", re.DOTALL),
        "write numbers with a decimal point, columns apart by comma, semicolon, tab or space, and "
        "leave out rows of units, totals and text",
    ),
)
