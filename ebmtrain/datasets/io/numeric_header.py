"""Telling a first row of numbers that names the columns from a point."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ebmtrain.errors import DataError

_MIN_ROWS = 3  # below a first row: fewer say nothing


class AmbiguousHeaderError(DataError):
    """The first row may be a header or a point."""


def is_header(path: Path, cells: Sequence[str], values: np.ndarray) -> bool:
    """True if the first row holds 0, 1, 2, ... or 1, 2, 3, ..., as pandas names columns, above
    columns with other than whole numbers.

    Args:
        path: of the file, for messages.
        cells: of the first row.
        values: (rows, columns), the numbers of all rows.

    Raises:
        AmbiguousHeaderError: it may be a header or a point.
    """
    first, rest = values[0], values[1:]
    if len(rest) < _MIN_ROWS:
        return False
    whole = all(re.fullmatch(r"\s*-?\d+\s*", cell) for cell in cells)
    fractions = (rest % 1 != 0).mean(0)  # of the rows, per column
    counts = whole and (np.diff(first) == 1).all() and first[0] in (0, 1)
    if counts and len(first) > 1 + first[0] and (fractions > 0.5).all():
        return True
    if _may_be_header(first, rest, whole=whole, counts=bool(counts), fractions=fractions):
        shown = ", ".join(cell.strip() for cell in cells[:4]) + (", ..." if len(cells) > 4 else "")
        raise AmbiguousHeaderError(
            f"{path} begins with the row {shown}, which may hold the names of the columns or a "
            "point: dataset.header=true or dataset.header=false"
        )
    return False


def _may_be_header(
    first: np.ndarray, rest: np.ndarray, *, whole: bool, counts: bool, fractions: np.ndarray
) -> bool:
    width = len(first)
    if counts and width > 2:
        return True
    if counts and width == 2 and first[0] == 0:
        return not (rest == first).all(1).any()
    if whole and (fractions == 1).all():
        return width > 1 or first[0] == 0
    step = np.diff(first)
    even = width > 4 and bool(step[0]) and np.allclose(step, step[0], rtol=1e-6)
    return even and not any(np.allclose(d, d[0], rtol=1e-6) for d in np.diff(rest[[0, -1]]))
