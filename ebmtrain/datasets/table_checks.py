"""Numbers in a table that are not data: an index, codes for missing values, a row of totals."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ebmtrain.datasets.io.point_table import columns_option
from ebmtrain.errors import DataError, counted

_MAX_NOTES = 3
_MIN_ROWS = 6  # fewer are no evidence of a pattern
_MIN_VALUES = 10  # of a column that has other values than a few classes
_MAX_COLUMNS = 500  # with more, the decomposition would take seconds
_COMBINATION = 1e-12  # variance along an axis, of standardized columns: rounding of float32
_FAR = 3.0  # ranges of all other values, from them to a repeated extreme value
_CODES = (-1e20, 1e20, 1e30, -1e30, 1e36, -1e36, 9.96921e36, -32768, 32767, 65535, -2147483648,
          2147483647, 4294967295)  # fmt: skip


def check_table(
    path: str,
    values: np.ndarray,
    names: tuple[str, ...] | None,
    *,
    columns_chosen: bool,
) -> list[str]:
    """Notes on columns and values that may not be data.

    Args:
        values: (rows, columns).
        columns_chosen: the user named the columns, so that an index among them is meant.

    Raises:
        DataError: a column is constant or an index, or the last row is the total.
    """
    notes: list[str] = []
    _refuse_constant(path, values, names)
    if len(values) < _MIN_ROWS:
        return notes
    if values.shape[1] > 1 and not columns_chosen:
        notes += _check_index(path, values, names)
    _refuse_total(path, values)
    return notes + _check_combinations(path, values, names)


def _check_combinations(path: str, values: np.ndarray, names: tuple[str, ...] | None) -> list[str]:
    """A note on fewer rows than columns, or on a column that is a linear combination of others."""
    n, d = values.shape
    if n <= d:
        return [
            f"{path} has {n} rows of {d} columns, fewer points than coordinates: transpose it if "
            "its columns are the points"
        ]
    # Columns of whole numbers have no density by themselves, which another note says.
    if d > _MAX_COLUMNS or d == 1 or (values % 1 == 0).all(0).any():
        return []
    standard = (values - values.mean(0)) / values.std(0)
    variances, axes = np.linalg.eigh(standard.T @ standard / n)
    if variances[0] > _COMBINATION:
        return []
    j = d - 1 - int(np.abs(axes[::-1, 0]).argmax())  # of equal ones the last
    others = [name for i, name in enumerate(names or ()) if i != j]
    remedy = f"{columns_option(others)} leaves it out" if others else "leave it out"
    return [
        f"{path} {_column(j, names)} is a linear combination of the other columns, so that the "
        f"points have no density and their likelihood is unbounded: {remedy}"
    ]


def leave_rows_out(
    values: np.ndarray, labels: Sequence[str] | None, missing: Sequence[float]
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The points without those that hold a code for a missing value, and their labels."""
    x = values.reshape(len(values), -1)
    # Nearly equal: a code in float32 is not the number that is typed.
    kept = ~np.any([(np.abs(x - v) <= 1e-6 * abs(v)).any(1) for v in missing], axis=0)
    return values[kept], None if labels is None else tuple(np.array(labels)[kept].tolist())


def _column(j: int, names: tuple[str, ...] | None) -> str:
    return f"column {j + 1} ({names[j]})" if names else f"column {j + 1}"


def _refuse_constant(path: str, values: np.ndarray, names: tuple[str, ...] | None) -> None:
    """Refuses a constant column, whose density would be infinite."""
    constant = np.ptp(values, axis=0) <= 1e-12 * np.abs(values).max(axis=0)
    if constant.any():
        j = int(np.argmax(constant))
        what = "leave it out" if values.shape[1] > 1 else "there is nothing to learn"
        if names and len(names) > 1:
            others = [name for i, name in enumerate(names) if not constant[i]]
            what = f"{columns_option(others)} leaves it out"
        raise DataError(f"{path} {_column(j, names)} is constant ({values[0, j]:.12g}): {what}")


def _check_index(path: str, values: np.ndarray, names: tuple[str, ...] | None) -> list[str]:
    """A note on a column that numbers the rows; of a table with names it is refused."""
    notes, low = [], values.min(0)
    whole = np.isin(low, (0, 1)) & (values.max(0) - low == len(values) - 1)
    for j in np.flatnonzero(whole).tolist():
        if not np.array_equal(np.sort(values[:, j]), low[j] + np.arange(len(values))):
            continue
        what = f"{path} {_column(j, names)} numbers the rows from {low[j]:.0f}, as an index does"
        if names is None:
            notes.append(f"{what}, and is learnt as data: write the file without it if it is one")
            continue
        others = [name for i, name in enumerate(names) if i != j]
        raise DataError(
            f"{what}: {columns_option(others)} leaves it out, and with {names[j]} among them it is "
            "data"
        )
    return notes


def _refuse_total(path: str, values: np.ndarray) -> None:
    """Refuses a last row that is the sum or the mean of all rows above, as spreadsheets have it."""
    above, last = values[:-1], values[-1]
    # A small sum of few or whole numbers may be a point by chance.
    several = values.shape[1] > 1 and bool((last % 1 != 0).any())
    beyond = bool((np.abs(last) > np.abs(above).max(0)).any())
    if (several or beyond) and np.allclose(last, above.sum(0), rtol=1e-6, atol=0):
        what = "sum"
    elif values.shape[1] > 1 and (abs(last - above.mean(0)) < 1e-6 * above.std(0)).all():
        what = "mean"
    else:
        return
    raise DataError(
        f"{path} has a last row, row {len(values)} (counted from 1), that is the {what} of all "
        "rows above: leave it out of the file"
    )


def check_codes(path: str, values: np.ndarray, names: tuple[str, ...] | None = None) -> list[str]:
    """Notes on extreme values that are repeated, far from all others, in a table.

    Args:
        values: (n, *event), NaN after the end of a sequence.

    Raises:
        DataError: such a value is one that other programs write for a missing value.
    """
    x, notes = values.reshape(len(values), -1), []
    for end in (np.fmin.reduce(x, 0), np.fmax.reduce(x, 0)):
        at_end = x == end
        known = np.array([_is_code(v, values.ndim) for v in end])
        repeated = at_end.sum(0) > 1 if values.ndim == 2 else known
        for j in np.flatnonzero(known | repeated).tolist():
            codes = [v for v in np.unique(x[:, j]) if _is_code(v, values.ndim)]
            others = x[~(np.isin(x[:, j], codes if known[j] else end[j]) | np.isnan(x[:, j])), j]
            if len(others) < _MIN_ROWS - 2:
                continue
            if not known[j] and len(np.unique(others)) < _MIN_VALUES:
                continue
            gap = max(others.min() - end[j], end[j] - others.max())
            if gap <= (1 if known[j] else _FAR) * np.ptp(others):
                continue
            event = values.shape[1:]
            element = _column(j, names) if len(event) == 1 else f"element {_element(j, event)}"
            what = (
                f"{path} {element} is {_exact(end[j])} in row {int(np.argmax(at_end[:, j])) + 1} "
                f"(counted from 1) and {counted(int(at_end[:, j].sum()) - 1, 'other')}, far from "
                f"{others.min():.6g} ... {others.max():.6g}"
            )
            remedy = f"dataset.missing=[{_exact(end[j])}] leaves such rows out"
            if known[j]:
                raise DataError(
                    f"{what}, as a code for a missing value: {remedy}, dataset.missing=[] keeps "
                    "them as data"
                )
            notes.append(f"{what}: if it stands for a missing value, {remedy}")
    return notes[:_MAX_NOTES]


def _element(j: int, event: tuple[int, ...]) -> str:
    return ", ".join(str(int(i) + 1) for i in np.unravel_index(j, event))


def _exact(value: float) -> str:
    """The number in as few digits as give the same number."""
    short = f"{value:.12g}"
    return short if float(short) == value else repr(float(value))


def _is_code(value: float, axes: int) -> bool:
    """True for -99, 999, -9999, ..., and the fill values of integer types and file formats. Of
    arrays with more than two axes only for those that are no pixels."""
    if axes > 2 and 0 <= value < 1e10:
        return False
    return bool(re.fullmatch(r"-?99+(\.0)?", repr(float(value)))) or any(
        np.isclose(value, code, rtol=1e-5, atol=0) for code in _CODES
    )
