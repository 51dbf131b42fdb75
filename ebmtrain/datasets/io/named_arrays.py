"""Arrays in files, by name, read on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches

import numpy as np

from ebmtrain.errors import DataError

_LENGTHS = "lengths"  # array of the lengths of sequences, (n, length, channels)


Arrays = Mapping[str, Callable[[], np.ndarray]]
"""Functions that read an array of a file, or map it into memory, by its name."""


def read_named(
    path: str, arrays: Arrays, array: str | None, labels: str | None = None
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """One array of a file: `array`, or the only one other than `lengths` and `labels`; and the
    entries of `labels` as text.

    If the file has `lengths`, sequences (n, length, channels) are NaN after the end of each.

    Raises:
        DataError: an array is missing, ambiguous or does not hold real numbers; the lengths or the
            labels do not fit the points.
    """
    chosen = _choose(path, list(arrays), array, labels)
    values = arrays[chosen]()
    check_numbers(f"{path}[{chosen}]", values.dtype)
    classes = None
    if labels is not None:
        _check_name(path, list(arrays), labels, "labels")
        classes = _read_labels(f"{path}[{labels}]", arrays[labels](), len(values))
    named_otherwise = chosen == _LENGTHS or (array is not None and values.ndim != 3)
    if _LENGTHS in arrays and not named_otherwise:
        values = _mask_ends(path, values, arrays[_LENGTHS]())
    return values, classes


def check_numbers(name: str, dtype: np.dtype) -> None:
    """Raises DataError unless values of this type are real numbers."""
    if dtype.kind == "c":
        raise DataError(f"{name} is complex ({dtype}): save real and imaginary part as two columns")
    if dtype.kind not in "biuf":
        raise DataError(f"{name} has dtype {dtype}, not numbers: save an array of floats")


def _read_labels(name: str, values: np.ndarray, n_points: int) -> tuple[str, ...]:
    flat = values.reshape(-1) if values.size == max(values.shape, default=0) else values
    if flat.ndim != 1 or len(flat) != n_points or flat.dtype.kind not in "biufUS":
        raise DataError(
            f"{name} is {values.dtype} of shape {values.shape}: save one label, a number or a "
            f"word, for each of the {n_points} points"
        )
    return tuple(str(x.decode() if isinstance(x, bytes) else x) for x in flat.tolist())


def _choose(path: str, names: list[str], array: str | None, labels: str | None) -> str:
    if not names:
        raise DataError(f"{path} holds no array: write it with numpy.savez(path, x=points)")
    if array is not None:
        _check_name(path, names, array, "array")
        return array
    points = [name for name in names if name not in (_LENGTHS, labels)] or names
    if len(points) > 1:
        raise DataError(
            f"{path} holds {len(points)} arrays: choose one with dataset.array=NAME (score: "
            f"array=NAME), of {', '.join(sorted(points)[:20])}"
        )
    return points[0]


def _check_name(path: str, names: list[str], name: str, what: str) -> None:
    if name in names:
        return
    near = get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"it holds {', '.join(sorted(names)[:20])}"
    raise DataError(f"{path} holds no {'array' if what == 'array' else what} {name}: {hint}")


def _mask_ends(path: str, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The sequences as float64, with NaN after the end of each."""
    if x.ndim != 3:
        raise DataError(
            f"{path} has lengths of sequences (n, length, channels), and its points have shape "
            f"{x.shape}: save sequences, or choose the array with array=NAME"
        )
    if lengths.dtype.kind not in "iu" or lengths.shape != x.shape[:1]:
        raise DataError(
            f"{path}[{_LENGTHS}] is {lengths.dtype} of shape {lengths.shape}: save a whole number "
            f"for each of the {len(x)} sequences"
        )
    wrong = (lengths < 1) | (lengths > x.shape[1])
    if wrong.any():
        i = int(np.argmax(wrong))
        raise DataError(
            f"{path}[{_LENGTHS}] is {lengths[i]} in row {i + 1} (counted from 1), the sequences "
            f"have 1 to {x.shape[1]} steps: correct it or leave the row out"
        )
    mask = np.arange(x.shape[1]) < lengths[:, None]
    return np.where(mask[..., None], x.astype(np.float64), np.nan)
