"""Points from a file of one's own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import torch

from ebmtrain.datasets.points import Points, standardization_of
from ebmtrain.datasets.read_csv import read_csv
from ebmtrain.datasets.read_numpy import read_npy, read_npz
from ebmtrain.errors import DataError
from ebmtrain.seeding import stream
from ebmtrain.types import OpenUnit, WholeNumber


def from_file(
    *,
    path: str,
    array: str | None = None,
    holdout: OpenUnit = 0.2,
    standardize: bool = True,
    seed: WholeNumber,
) -> Points:
    """Rows of a .npy, .npz, .csv, .tsv or .txt file, split at random.

    Args:
        path: of the file; the first axis of its array counts the points, the others are the
            shape of one point. A one-dimensional array is n points of one coordinate.
        array: name of the array in a .npz file that holds several.
        holdout: share of the points that is not trained on, in (0, 1); at least one point, and
            at least one is left to train on.
        standardize: give models coordinates of mean 0 and standard deviation 1 over the training
            points.
        seed: of the split.

    Raises:
        DataError: the file cannot be used; one line with the reason and the remedy.
    """
    values = _checked(path, _read(path, array))
    _check_columns(path, values)
    points = torch.from_numpy(values)
    order = torch.randperm(len(points), generator=stream(seed, "split"))
    n_holdout = min(max(1, round(holdout * len(points))), len(points) - 1)
    train = points[order[n_holdout:]]
    return Points(
        train,
        points[order[:n_holdout]],
        standardization=standardization_of(train, standardize),
    )


def _read(path: str, array: str | None) -> np.ndarray:
    try:
        file = Path(path).expanduser()
        _check_readable(path, file.stat())
        kind = file.suffix.lower()
        if array is not None and kind != ".npz":
            raise DataError(f"{path} has no named arrays: leave dataset.array={array} out")
        match kind:
            case ".npy":
                return read_npy(file)
            case ".npz":
                return read_npz(file, array)
            case ".csv" | ".tsv" | ".txt":
                return read_csv(file)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist: check dataset.path") from error
    except (OSError, RuntimeError, ValueError) as error:  # no permission, no home, a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path!r} cannot be read ({reason}): check dataset.path") from error
    raise DataError(f"{path} is of no known kind: give .npy, .npz, .csv, .tsv or .txt")


def _check_readable(path: str, status: os.stat_result) -> None:
    """Before it is opened: opening a pipe that nobody writes to waits for ever."""
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path} is a directory: name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is a pipe or a device: copy the data to a file")
    if status.st_size == 0:
        raise DataError(f"{path} is empty: write the data again")


def _checked(path: str, values: np.ndarray) -> np.ndarray:
    """(n, *event) float64 with n >= 2, all finite in float32."""
    if values.ndim == 0:
        raise DataError(f"{path} holds one number, not points: save an array (points, coordinates)")
    if values.ndim == 1:
        values = values[:, None]
    if values.size == 0:
        raise DataError(f"{path} holds no numbers (shape {values.shape}): write the data again")
    if len(values) < 2:
        raise DataError(f"{path} holds one point: give at least 2, one to train on, one held out")
    values = np.ascontiguousarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        fine = np.abs(values) <= np.finfo(np.float32).max  # NaN compares false
    if not fine.all():
        bad = np.unravel_index(int(np.argmin(fine)), fine.shape)
        row, *column = (int(i) + 1 for i in bad)
        where = f"row {row}, column {', '.join(map(str, column))} (counted from 1)"
        which = "float32 cannot hold" if np.isfinite(values[bad]) else "are not finite"
        raise DataError(f"{path} has {values[bad]} in {where}: leave out rows that {which}")
    return values


def _check_columns(path: str, values: np.ndarray) -> None:
    """A column of one value has no density: it would be infinite there. The pixels of an image are
    no columns that could be left out."""
    if values.ndim != 2:
        return
    constant = np.ptp(values, axis=0) <= 1e-12 * np.abs(values).max(axis=0)
    if constant.any():
        j = int(np.argmax(constant))
        what = "leave it out" if values.shape[1] > 1 else "there is nothing to learn"
        raise DataError(f"{path} column {j + 1} is constant ({values[0, j]:.12g}): {what}")
