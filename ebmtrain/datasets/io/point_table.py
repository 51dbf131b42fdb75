"""What readers of files return."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ebmtrain.errors import DataError, suggestion


class UnnamedColumnsError(DataError):
    """Columns are selected by name in a file without column names."""


class PointTable(NamedTuple):
    """Points of a file, one per row, and the names of the columns."""

    values: np.ndarray
    """(rows, columns) for a table; any shape for an array."""
    names: tuple[str, ...] | None = None
    """Names of the columns; None: the file has none."""
    labels: tuple[str, ...] | None = None
    """Text of the label column per row; None: no label column was selected."""
    notes: tuple[str, ...] = ()
    """What the user should know of the reading, one line each."""


def printable(cell: str) -> str:
    """The text without control characters, which a terminal would execute."""
    return "".join(c if c.isprintable() else " " for c in cell).strip()


def positions(path: object, names: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Positions of `columns` among `names`, from 0.

    Raises:
        DataError: a column does not exist or occurs twice, or none is selected.
    """
    if not columns:
        raise DataError(f"no columns of {path} are chosen: name at least one")
    for name in columns:
        if name not in names:
            near = suggestion(name, names) or f"; it has {len(names)} columns"
            raise DataError(f"{path} has no column {name}: check the names{near}")
        if list(names).count(name) > 1 or list(columns).count(name) > 1:
            raise DataError(f"column {name} of {path} occurs twice: rename or leave out one")
    return [list(names).index(name) for name in columns]


def refuse_index(path: object, names: Sequence[str]) -> None:
    """Raises DataError if the first row of a table shows that one of its columns is an index: the
    first has no name there, or one has the name that pandas gives to such a column."""
    index = [j for j, name in enumerate(names) if _INDEX.fullmatch(name)]
    if len(names) > 1 and (index or not names[0]):
        others = [name for j, name in enumerate(names) if name and j not in index]
        raise DataError(
            f"{path} has an index, a column without a name, which would be trained on: write it "
            f"without, or leave it out by {columns_option(others)}"
        )


_INDEX = re.compile(r"Unnamed: 0(\.\d+)*")


def columns_option(names: Sequence[str]) -> str:
    """The argument that selects these columns, as it is typed in a shell."""
    if len(names) > 12:
        return f"dataset.columns=[{names[0]},...]"
    if all(re.fullmatch(r"[A-Za-z_]\w*", name) for name in names):
        return f"dataset.columns=[{','.join(names)}]"
    escaped = (name.replace("\\", "\\\\").replace('"', '\\"') for name in names)
    return "dataset.columns=" + shlex.quote("[" + ",".join(f'"{name}"' for name in escaped) + "]")
