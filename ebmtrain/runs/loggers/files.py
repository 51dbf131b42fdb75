"""Metrics in the files of the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebmtrain.runs.storage.rundir import RunDir


class FileLogger:
    """Appends each row to metrics.jsonl and metrics.csv. A resumed run truncates both to the rows
    before its checkpoint (`RunDir.truncate_metrics`)."""

    def __init__(self, run: RunDir):
        self.run = run

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        """Raises OutputError if the directory was removed or a file cannot be written."""
        self.run.log_row({"step": step, **row})

    def figure(self, name: str, path: Path) -> None:
        """Nothing to do: figures are files of the run directory."""

    def close(self) -> None:
        """Nothing to do: every row is written when it is logged."""
