"""Metrics in the files of the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebmtrain.runs.storage.rundir import RunDir


class FileLogger:
    """Appends each row to metrics.jsonl and metrics.csv.

    metrics.jsonl is the record from which every other one can be made: a run that is resumed
    truncates it to what its checkpoint knows (`RunDir.truncate_metrics`).
    """

    def __init__(self, run: RunDir):
        self.run = run

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        """
        Raises:
            OutputError: the directory is gone, or a file cannot be written.
        """
        self.run.check_exists()
        self.run.log_row({"step": step, **row})

    def figure(self, name: str, path: Path) -> None:
        """Nothing to do: figures are files of the run directory already."""

    def close(self) -> None:
        """Nothing to do: every row is written when it is logged."""
