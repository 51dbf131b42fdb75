"""Tables in Parquet files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ebmtrain.datasets.io.memory import check_memory, points_bytes
from ebmtrain.datasets.io.point_table import (
    PointTable,
    columns_option,
    positions,
    printable,
    refuse_index,
)
from ebmtrain.errors import DataError, first_line
from ebmtrain.runtime.optional import import_optional


def read_parquet(
    path: Path, columns: Sequence[str] | None = None, label: str | None = None
) -> PointTable:
    """The numbers of a table as float64, without an index that pandas marks as such.

    Args:
        columns, label: see `read_csv`.

    Raises:
        ConfigError: pyarrow is not installed.
        DataError: the file is damaged, a column does not exist, or a cell is not a number.
    """
    parquet = import_optional("pyarrow.parquet", str(path), "files")
    try:
        with parquet.ParquetFile(path) as file:
            schema, n_rows = file.schema_arrow, file.metadata.num_rows
            index = _index_columns(schema)
            names = [name for name in schema.names if columns is not None or name not in index]
            if columns is None:
                refuse_index(path, names)
                columns = [name for name in names if name != label]
            elif not columns:
                positions(path, names, columns)
            wanted = [*columns, *([] if label is None else [label])]
            positions(path, schema.names, wanted) if wanted else None
            check_memory(path, points_bytes((n_rows, len(columns))))
            table = file.read(columns=wanted)
    except DataError:
        raise
    except Exception as error:  # pyarrow raises errors of many kinds for a damaged file
        reason = first_line(error)
        raise DataError(f"{path} cannot be read as Parquet ({reason}): write it again") from error
    values = np.empty((n_rows, len(columns)))
    for j, name in enumerate(columns):
        values[:, j] = _numbers(path, schema, table.column(name), name)
    labels = None if label is None else _words(path, table.column(label), label)
    return PointTable(values, tuple(map(printable, columns)), labels)


def _index_columns(schema: Any) -> list[str]:
    """The columns that pandas restores as an index."""
    metadata = schema.pandas_metadata or {}
    marked = [name for name in metadata.get("index_columns", ()) if isinstance(name, str)]
    return [*marked, *(name for name in schema.names if re.fullmatch(_INDEX, name))]


_INDEX = r"__index_level_\d+__"


def _numbers(path: Path, schema: Any, column: Any, name: str) -> np.ndarray:
    if not _is_numeric(column.type):
        numeric = [field.name for field in schema if _is_numeric(field.type)]
        raise DataError(
            f"{path} column {printable(name)} holds {column.type}, not numbers: "
            f"{columns_option(numeric)} leaves it out"
        )
    _refuse_null(path, column, name)
    return column.to_numpy().astype(np.float64)


def _is_numeric(kind: Any) -> bool:
    types = import_optional("pyarrow.types", "Parquet", "files")
    tests = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal)
    return any(test(kind) for test in tests)


def _words(path: Path, column: Any, name: str) -> tuple[str, ...]:
    _refuse_null(path, column, name)
    return tuple(printable(str(value)) for value in column.to_pylist())


def _refuse_null(path: Path, column: Any, name: str) -> None:
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy())) + 1
        raise DataError(
            f"{path} row {row} (counted from 1), column {printable(name)} has a missing value: "
            "fill it in or leave the row out"
        )
