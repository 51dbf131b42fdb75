"""Metrics on the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebmtrain.runs.console import RunConsole


class ConsoleLogger:
    """Shows each row, with the updates per second since the row before.

    Args:
        console: of the run.
        step: at which the run begins, or goes on.
    """

    def __init__(self, console: RunConsole, step: int):
        self.console = console
        self._time = time.perf_counter()
        self.rewind(step)

    def rewind(self, step: int) -> None:
        """The run goes on from an earlier step: the next speed counts updates from there."""
        self._step = step

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        now = time.perf_counter()
        per_second = (step - self._step) / max(now - self._time, 1e-9)
        self._time, self._step = now, step
        self.console.row(step, row, per_second)

    def figure(self, name: str, path: Path) -> None:
        """Nothing to show: the run's last lines name the folder of its figures."""

    def close(self) -> None:
        self.console.stop_bar()
