"""Where the rows and figures of a run go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Logger(Protocol):
    """Where the metrics and the figures of a run go: files, the terminal, an experiment tracker.

    Metrics are rows of numbers at a step. Steps ascend, except that a run which returns to its last
    checkpoint logs the steps after it once more.
    """

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        """One row of metrics, by their names: numbers, or lists of numbers."""
        ...

    def figure(self, name: str, path: Path) -> None:
        """A figure that was written to a file.

        Args:
            name: of the file, without its suffix.
            path: of the PNG or GIF file.
        """
        ...

    def close(self) -> None:
        """The run has ended: finished, interrupted or failed."""
        ...
