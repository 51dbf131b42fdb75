"""Columns of whole numbers or of few values, which have no density."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ebmtrain.datasets.io.point_table import columns_option

_MAX_DECIMALS = 3  # of a step
_MIN_REPEATS = 2  # rows per value, from which the values of a column count as repeated
_MIN_STEP = 0.1  # of a column with decimals, in standard deviations; finer ones are rounding
_N_SCREENED = 1_000  # rows that are looked at first
_MAX_NAMED = 3


def lattice_steps(values: np.ndarray) -> np.ndarray:
    """The step h of each column whose values are c + h k with whole k and are repeated; 0 for
    columns without a step.

    Args:
        values: (n, *event); NaN is ignored.

    Returns:
        (columns,) for a table, (n, columns); for sequences (length, channels) with some channels
        that have a step and some that have none, (channels,); else (1,), of all numbers together.
    """
    if values.ndim == 2:
        return np.array([_step(values[:, j]) for j in range(values.shape[1])])
    whole = np.array([_step(values.reshape(-1))])
    if whole[0] or values.ndim != 3:
        return whole
    return np.array([_step(values[..., j].reshape(-1)) for j in range(values.shape[-1])])


def _step(x: np.ndarray) -> float:
    x = x[np.isfinite(x)]
    for decimals in range(_MAX_DECIMALS + 1):
        if not _are_whole(x[:_N_SCREENED] * 10**decimals) or not _are_whole(x * 10**decimals):
            continue
        whole = np.unique(np.round(x * 10**decimals)).astype(np.int64)
        if len(whole) < 2 or len(x) < _MIN_REPEATS * len(whole):
            return 0.0
        step = float(np.gcd.reduce(np.diff(whole))) / 10**decimals
        return step if decimals == 0 or step >= _MIN_STEP * x.std() else 0.0
    return 0.0


def on_lattice(x: np.ndarray, step: float, origin: float | None = None) -> np.ndarray:
    """Which of the numbers (n,) have few decimals and are origin + step k with whole k; none if
    they are fewer than half, as of rounded real numbers.

    Args:
        origin: None: the most frequent of the numbers.
    """
    finite = x[np.isfinite(x)]
    if not len(finite):
        return np.zeros(len(x), bool)
    if origin is None:
        distinct, counts = np.unique(finite, return_counts=True)
        origin = float(distinct[counts.argmax()])
    found = _is_whole(x * 10**_MAX_DECIMALS) & _is_whole((x - origin) / step)
    return found & (2 * found.sum() >= len(finite))


def _are_whole(x: np.ndarray) -> bool:
    return bool(_is_whole(x).all())


def _is_whole(x: np.ndarray) -> np.ndarray:
    size = np.abs(x)
    return (np.abs(x - np.round(x)) <= 1e-9 * np.maximum(size, 1)) & (size < 2**53)


def discrete_notes(
    path: str, values: np.ndarray, names: tuple[str, ...] | None, steps: np.ndarray
) -> list[str]:
    """Notes on the columns that have no density, with the remedy; `steps` as of `lattice_steps`."""
    if not steps.any():
        return []
    if len(steps) == 1 and values[0].size > 1:
        n = len(np.unique(values))
        return [
            f"all numbers of {path} are multiples of {steps[0]:g} or differ by them ({n} values); "
            f"{_WITHOUT_DENSITY}"
        ]
    notes, one_hot = [], _one_hot(values) if values.ndim == 2 else []
    for group in one_hot:
        others = [j for j in range(len(steps)) if j not in group]
        remedy = "write one column of class numbers for them"
        if names and others:
            keep = columns_option([names[j] for j in others])
            remedy = f"leave them out ({keep}), or {remedy}"
        notes.append(
            f"{path} {_list(group, names)} are one-hot, a 1 in each row and 0 else: a class and "
            f"not a point in space; {remedy}, for dataset.labels with method=jem. To keep them, "
            "drop one of them, as it follows from the others, and give dataset.dequantize=true"
        )
    rest = [j for j in np.flatnonzero(steps).tolist() if not any(j in group for group in one_hot)]
    if rest:
        j = rest[0]
        n, rows = len(np.unique(values[..., j])), values[..., j].size
        notes.append(
            f"{path} {_list(rest, names)} hold whole numbers or multiples of a step ({n} values in "
            f"{rows} rows of the first, step {steps[j]:g}); {_WITHOUT_DENSITY}"
        )
    return notes


_WITHOUT_DENSITY = (
    "such data have no density, and an NLL of them is unbounded below and means nothing: "
    "dataset.dequantize=true adds uniform noise of one step h, and the NLL minus the sum of log h "
    "is then an upper bound on that of the discrete data"
)


def _list(columns: Sequence[int], names: tuple[str, ...] | None) -> str:
    shown = [names[j] if names else str(j + 1) for j in columns[:_MAX_NAMED]]
    more = f" and {len(columns) - _MAX_NAMED} more" if len(columns) > _MAX_NAMED else ""
    return f"column{'s' if len(columns) > 1 else ''} {', '.join(shown)}{more}"


def _one_hot(values: np.ndarray) -> list[list[int]]:
    """Groups of adjacent columns of which one is 1 in each row and the others are 0."""
    binary = [bool(np.isin(x, (0.0, 1.0)).all()) for x in values.T]
    groups, start = [], 0
    while start < len(binary):
        total, end = np.zeros(len(values)), start
        while end < len(binary) and binary[end] and total.max() <= 1 and total.min() < 1:
            total += values[:, end]
            end += 1
        if end - start > 1 and (total == 1).all():
            groups.append(list(range(start, end)))
            start = end
        else:
            start += 1
    return groups
