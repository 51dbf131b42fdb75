"""Reading points from a file of any supported format."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ebmtrain.datasets.io.long_format import LongColumns, to_sequences
from ebmtrain.datasets.io.read_csv import PointTable, UnnamedColumnsError, read_csv
from ebmtrain.datasets.io.read_numpy import read_npy, read_npz
from ebmtrain.errors import DataError
from ebmtrain.masks import step_mask


def read_points(
    path: str,
    array: str | None = None,
    columns: Sequence[str] | None = None,
    long: LongColumns | None = None,
    *,
    ragged: bool = False,
) -> PointTable:
    """The rows of a .npy, .npz, .csv, .tsv or .txt file, (n, *event) float64 with n >= 1.

    Args:
        path: the file; the first axis of its array counts the points, the others are the
            shape of one point. A one-dimensional array is n points of one coordinate.
        array: name of the array in a .npz file that holds several.
        columns: names of the columns of a text table to read, in this order; None: all.
        long: columns of a text table in long format. Event is then (length, channels), one channel
            per other column, and the table has no column names.
        ragged: allow sequences (n, length, channels) of different lengths, with NaN in every
            channel after the end of a sequence. The longest has `length` steps.

    Raises:
        UnnamedColumnsError: columns are selected by name and have none.
        DataError: the file is invalid; one line with the reason and the remedy.
    """
    table = PointTable(np.empty(0))
    try:
        file = Path(path).expanduser()
        _check_readable(path, file.stat())
        kind = file.suffix.lower()
        if array is not None and kind != ".npz":
            raise DataError(f"{path} has no named arrays: leave array={array} out")
        if kind in (".npy", ".npz") and (columns is not None or long is not None):
            which = "columns" if long is None else "id and time"
            raise UnnamedColumnsError(
                f"{path} has no named columns: give a csv file, or leave {which} out"
            )
        match kind:
            case ".npy":
                table = PointTable(read_npy(file))
            case ".npz":
                table = PointTable(read_npz(file, array))
            case ".csv" | ".tsv" | ".txt" if long is not None:
                wanted = None if columns is None else [long.time, *columns]
                steps = read_csv(file, wanted, long.id)
                table = PointTable(to_sequences(path, steps, long, ragged))
            case ".csv" | ".tsv" | ".txt":
                table = read_csv(file, columns)
            case _:
                raise DataError(f"{path} is of no known kind: give .npy, .npz, .csv, .tsv or .txt")
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist: check the path") from error
    except (OSError, RuntimeError, ValueError) as error:  # permission, no home, a NUL in it
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise DataError(f"{path!r} cannot be read ({reason}): check the path") from error
    return PointTable(_validate(path, table.values, ragged), table.names)


def _check_readable(path: str, status: os.stat_result) -> None:
    """Refuses what is not a regular file before it is opened: opening a pipe may block forever."""
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path} is a directory: name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is a pipe or a device: copy the data to a file")
    if status.st_size == 0:
        raise DataError(f"{path} is empty: write the data again")


def _validate(path: str, values: np.ndarray, ragged: bool) -> np.ndarray:
    """The values as (n, *event) float64, all finite in float32 except for the padding of
    sequences."""
    if values.ndim == 0:
        raise DataError(f"{path} holds one number, not points: save an array (points, coordinates)")
    if values.ndim == 1:
        values = values[:, None]
    if values.size == 0:
        raise DataError(f"{path} holds no numbers (shape {values.shape}): write the data again")
    values = np.ascontiguousarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        valid = np.abs(values) <= np.finfo(np.float32).max  # NaN compares false
    if ragged and values.ndim == 3 and not valid.all():
        mask = step_mask(torch.from_numpy(values)).numpy()
        values = values[:, : mask.sum(1).max()]
        valid = (valid | ~mask[..., None])[:, : values.shape[1]]
    if not valid.all():
        bad = np.unravel_index(int(np.argmin(valid)), valid.shape)
        row, *column = (int(i) + 1 for i in bad)
        where = f"row {row}, column {', '.join(map(str, column))} (counted from 1)"
        which = "float32 cannot hold" if np.isfinite(values[bad]) else "are not finite"
        raise DataError(f"{path} has {values[bad]} in {where}: leave out rows that {which}")
    return values
