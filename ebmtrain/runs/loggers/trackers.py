"""Experiment trackers, beside the files of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ebmtrain.errors import ConfigError, reason, suggestion
from ebmtrain.runs.loggers.console import LOG
from ebmtrain.runs.loggers.tensorboard import TensorBoardLogger
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.types import Logger

TRACKERS: Mapping[str, Callable[[RunDir], TensorBoardLogger]] = {"tensorboard": TensorBoardLogger}
"""The options of `tracker`."""


def tracker_named(name: str, run: RunDir) -> TensorBoardLogger:
    """The tracker of a run. Raises ConfigError if there is none of this name, or its package is not
    installed."""
    if name not in TRACKERS:
        raise ConfigError(f"unknown option tracker={name}{suggestion(name, TRACKERS)}")
    return TRACKERS[name](run)


class SafeLogger:
    """A logger whose first error is a warning and its end: no error of a tracker ends a run."""

    def __init__(self, logger: Logger, name: str):
        self.logger: Logger | None = logger
        self.name = name

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        self._call(lambda logger: logger.log(step, row))

    def figure(self, name: str, path: Path) -> None:
        self._call(lambda logger: logger.figure(name, path))

    def close(self) -> None:
        self._call(lambda logger: logger.close())

    def _call(self, act: Callable[[Logger], None]) -> None:
        if self.logger is None:
            return
        try:
            act(self.logger)
        except Exception as error:
            self.logger = None
            LOG.warning(
                "warning: tracker=%s stopped (%s); the run continues, and ebmtrain export writes "
                "its metrics later", self.name, reason(error),
            )  # fmt: skip
