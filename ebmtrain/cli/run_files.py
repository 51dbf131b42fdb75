"""Opening a run with other options and encoding arrays, for the verbs on a trained run."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ebmtrain.cli.arguments import apply_options, warn
from ebmtrain.runs.loading import open_run
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.runs.trained_run import Run


def open_with_options(
    path: Path, options: Mapping[str, Any], checkpoint: str | None, trust: tuple[str, ...]
) -> Run:
    """The run in `path` under its configuration with these options, in a process set up for it."""
    directory = RunDir.open(path)
    config = apply_options(directory.config(), options)
    return open_run(directory, config, checkpoint, trust, warn, set_up_process=True)


def encode_arrays(
    suffix: str,
    arrays: Mapping[str, np.ndarray],
    table: np.ndarray,
    names: Sequence[str] | None,
) -> bytes:
    """The content of a file. Numbers of a table have 15 digits.

    Args:
        suffix: .npz, which holds all arrays; .npy, the first array; .csv, the table.
        names: of the columns of the table; None: no header.
    """
    buffer = io.BytesIO()
    if suffix == ".npz":
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # no array is its allow_pickle
    elif suffix == ".npy":
        np.save(buffer, next(iter(arrays.values())))
    else:
        if names is not None:
            header = io.StringIO()
            csv.writer(header, lineterminator="\n").writerow(names)
            buffer.write(header.getvalue().encode())
        np.savetxt(buffer, table, "%.15g", ",")
    return buffer.getvalue()
