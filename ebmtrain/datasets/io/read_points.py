"""Reading points from a file of any supported format."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from ebmtrain.datasets.io.long_format import LongColumns, to_sequences
from ebmtrain.datasets.io.memory import check_memory, points_bytes, points_in_memory
from ebmtrain.datasets.io.named_arrays import check_numbers, read_named
from ebmtrain.datasets.io.point_table import PointTable, UnnamedColumnsError
from ebmtrain.datasets.io.read_archive import ARCHIVES, open_archive
from ebmtrain.datasets.io.read_csv import read_csv
from ebmtrain.datasets.io.read_numpy import read_npy
from ebmtrain.datasets.io.read_parquet import read_parquet
from ebmtrain.errors import DataError
from ebmtrain.masks import step_mask

_TEXT = (".csv", ".tsv", ".txt")
_TABLES = (*_TEXT, ".gz", ".parquet")
_KINDS = ".npy, .npz, .csv, .tsv, .txt (or .csv.gz), .parquet, .h5, .mat, .pt or .safetensors"


def read_points(
    path: str,
    array: str | None = None,
    columns: Sequence[str] | None = None,
    long: LongColumns | None = None,
    *,
    labels: str | None = None,
    header: bool | None = None,
    select: Callable[[int], np.ndarray | None] | None = None,
    ragged: bool = False,
) -> PointTable:
    """The rows of a file of one of the kinds in `_KINDS`, (n, *event) float64 with n >= 1.

    Args:
        path: the file; the first axis of its array counts the points, the others are the
            shape of one point. A one-dimensional array is n points of one coordinate.
        array: name of the array in a file that holds several.
        columns: names of the columns of a table to read, in this order; None: all.
        long: columns of a table in long format. Event is then (length, channels), one channel
            per other column, and the table has no column names.
        labels: name of the column, or of the array, that holds the classes; None: none.
        header: whether the first row of a text table holds names; None: as `read_csv` finds.
        select: the rows to read, given their number; None: all. Of an npy file no others are read.
        ragged: allow sequences (n, length, channels) of different lengths, with NaN in every
            channel after the end of a sequence. The longest has `length` steps.

    Raises:
        UnnamedColumnsError: columns are selected by name and have none.
        ConfigError: a package that reads the file is not installed.
        DataError: the file is invalid; one line with the reason and the remedy.
    """
    try:
        file = Path(path).expanduser()
        _check_readable(path, file.stat())
        kind = file.suffix.lower()
        if kind not in (".npy", *_TABLES, *ARCHIVES) or (
            kind == ".gz" and Path(file.stem).suffix.lower() not in _TEXT
        ):
            raise DataError(f"{path} is of no known kind: give {_KINDS}")
        _check_options(path, kind, array, columns, long, labels)
        if kind in _TABLES:
            table = _read_table(path, file, kind, columns, long, labels, header, ragged)
        elif kind == ".npy":
            table = PointTable(read_npy(file))
        else:
            values, classes = read_named(path, open_archive(file), array, labels)
            table = PointTable(values, labels=classes)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist: check the path") from error
    except (OSError, RuntimeError, ValueError) as error:  # permission, no home, a NUL in it
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise DataError(f"{path!r} cannot be read ({reason}): check the path") from error
    rows = None if select is None or not table.values.ndim else select(len(table.values))
    if rows is not None:
        classes = None if table.labels is None else tuple(table.labels[i] for i in rows)
        table = table._replace(values=table.values[rows], labels=classes)
    return table._replace(values=_validate(path, table.values, ragged))


def _check_options(
    path: str,
    kind: str,
    array: str | None,
    columns: Sequence[str] | None,
    long: LongColumns | None,
    labels: str | None,
) -> None:
    """Refuses options that this kind of file has no use for."""
    if array is not None and kind not in ARCHIVES:
        raise DataError(f"{path} has no named arrays: leave array={array} out")
    if kind not in _TABLES and (columns is not None or long is not None):
        which = "columns" if long is None else "id and time"
        raise UnnamedColumnsError(
            f"{path} has no named columns: give a csv file, or leave {which} out"
        )
    if labels is not None and (kind == ".npy" or long is not None):
        remedy = "give a table or an npz file" if long is None else "leave labels out"
        raise DataError(f"{path} has no labels {labels} of its points: {remedy}")


def _read_table(
    path: str,
    file: Path,
    kind: str,
    columns: Sequence[str] | None,
    long: LongColumns | None,
    labels: str | None,
    header: bool | None,
    ragged: bool,
) -> PointTable:
    if long is not None:
        columns, labels = None if columns is None else [long.time, *columns], long.id
    if kind == ".parquet":
        table = read_parquet(file, columns, labels)
    else:
        table = read_csv(file, columns, labels, header)
    if long is None:
        return table
    return PointTable(to_sequences(path, table, long, ragged), notes=table.notes)


def _check_readable(path: str, status: os.stat_result) -> None:
    """Refuses what is not a regular file before it is opened: opening a pipe may block forever."""
    if stat.S_ISDIR(status.st_mode):
        raise DataError(
            f"{path} is a directory: name a file in it, or dataset=image_folder for pictures"
        )
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is a pipe or a device: copy the data to a file")
    if status.st_size == 0:
        raise DataError(f"{path} is empty: write the data again")


def _validate(path: str, values: np.ndarray, ragged: bool) -> np.ndarray:
    """The values as (n, *event) float64, all finite in float32 except for the padding of
    sequences."""
    check_numbers(path, values.dtype)
    if values.ndim == 0:
        raise DataError(f"{path} holds one number, not points: save an array (points, coordinates)")
    if values.ndim == 1:
        values = values[:, None]
    if values.size == 0:
        raise DataError(f"{path} holds no numbers (shape {values.shape}): write the data again")
    subset = f"dataset.n_train={points_in_memory(values.shape[1:])} reads a random subset"
    remedy = (
        subset if path.lower().endswith(".npy") else f"save it as an npy file, of which {subset}"
    )
    check_memory(path, points_bytes(values.shape), remedy)
    values = np.require(values, np.float64, ["C", "W"])
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
