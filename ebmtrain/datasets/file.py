"""Points from a file."""

from __future__ import annotations

import numpy as np
import torch

from ebmtrain.datasets.io.long_format import LongColumns
from ebmtrain.datasets.io.read_points import read_points
from ebmtrain.datasets.points import Points, random_split
from ebmtrain.datasets.standardization import Standardize
from ebmtrain.errors import ConfigError, DataError
from ebmtrain.types import OpenUnit, WholeNumber


def from_file(
    *,
    path: str,
    array: str | None = None,
    columns: list[str] | None = None,
    id: str | None = None,
    time: str | None = None,
    holdout: OpenUnit = 0.2,
    standardize: Standardize = True,
    seed: WholeNumber,
) -> Points:
    """Rows of a .npy, .npz, .csv, .tsv or .txt file, split at random.

    Args:
        path: the file. The first axis of its array counts the points, the others are the shape of
            one point. A one-dimensional array is n points of one coordinate. Sequences
            (n, length, channels) may be of different lengths: NaN at the end of the shorter ones,
            or an array `lengths` next to them in a .npz file.
        array: name of the array in a .npz file that holds several.
        columns: names of the columns of a text table to use, in this order; null: all.
        id, time: names of two columns of a text table in long format, whose rows are steps: the
            sequence of a step, and its time. A point is then (length, channels), one channel per
            other column. All sequences have the same times, up to their length, in any order of
            the rows. null: a row is a point.
        holdout, standardize, seed: see `random_split`.

    Raises:
        ConfigError: only one of id and time is given, or both name the same column.
        DataError: the file is invalid; one line with the reason and the remedy.
    """
    if (id is None) != (time is None) or (id is not None and id == time):
        raise ConfigError(
            "dataset.id and dataset.time are two columns of a table whose rows are steps of "
            "sequences: give both, or neither"
        )
    long = None if id is None or time is None else LongColumns(id, time)
    values, names, _ = read_points(path, array, columns, long, ragged=True)
    if len(values) < 2:
        raise DataError(f"{path} holds one point: give at least 2, one to train on, one held out")
    _check_columns(path, values, names)
    points = torch.from_numpy(values)
    return random_split(points, holdout=holdout, standardize=standardize, seed=seed, names=names)


def _check_columns(path: str, values: np.ndarray, names: tuple[str, ...] | None) -> None:
    """Refuses a constant column of a table, whose density would be infinite."""
    if values.ndim != 2:
        return
    constant = np.ptp(values, axis=0) <= 1e-12 * np.abs(values).max(axis=0)
    if constant.any():
        j = int(np.argmax(constant))
        what = "leave it out" if values.shape[1] > 1 else "there is nothing to learn"
        which = f"{j + 1} ({names[j]})" if names else f"{j + 1}"
        raise DataError(f"{path} column {which} is constant ({values[0, j]:.12g}): {what}")
