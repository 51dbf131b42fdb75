"""Console output of a run: lines, and on a terminal a live progress bar below them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ebmtrain.runs.storage.atomic_io import open_log
from ebmtrain.runtime.stdio import silence_stdout

LOG = logging.getLogger("ebmtrain")
_ACTIVE_CONSOLE: ContextVar[RunConsole | None] = ContextVar("active console", default=None)
"""The display of the run that speaks: one of several side by side, each in a context of its own."""

_METRIC_LABELS = {
    "energy_data": "E(data)",
    "energy_model": "E(chains)",
    "loss": "loss",
    "grad_norm": "|grad|",
    "acceptance": "accept",
    "clipped": "clipped",
    "kl": "KL",
    "nll": "NLL",
    "accuracy": "accuracy",
}


def _format_row(row: Mapping[str, Any]) -> str:
    """The numbers of a row that a person watches, in one line."""
    shown = ((label, row.get(name)) for name, label in _METRIC_LABELS.items())
    return "  ".join(
        f"{label} {value:.4g}"
        for label, value in shown
        if isinstance(value, int | float) and not (label == "clipped" and value == 0)
    )


class RunConsole:
    """Lines to the terminal and to run.log; use it as a context. In there it gets what its own run
    says, and what is said outside of any run.

    Args:
        log_file: gets every line.
        quiet: nothing to the terminal (jobs of a sweep).
        n_steps: of the whole training, for the bar; 0: no bar.
    """

    def __init__(self, log_file: Path, *, quiet: bool = False, n_steps: int = 0):
        self.outer: RunConsole | None = None
        console = Console(stderr=False, soft_wrap=True)
        self.live = console.is_terminal and not quiet and n_steps > 0
        self.handlers: list[logging.Handler] = [_LogFileHandler(log_file)]
        self.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        if not quiet:
            self.handlers.append(_terminal_handler(console, self.live))
        for handler in self.handlers:
            handler.addFilter(lambda _: _ACTIVE_CONSOLE.get() in (self, None))
        self.progress = _progress_bar(console) if self.live else None
        self.task = self.progress.add_task("", total=n_steps, numbers="") if self.progress else None

    def __enter__(self) -> RunConsole:
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
        for handler in self.handlers:
            LOG.addHandler(handler)
        self.outer = _ACTIVE_CONSOLE.get()
        _ACTIVE_CONSOLE.set(self)
        if self.progress:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_bar()
        _ACTIVE_CONSOLE.set(self.outer)
        for handler in self.handlers:
            LOG.removeHandler(handler)
            with suppress(OSError):  # lines that a full disk had no room for
                handler.close()

    def stop_bar(self) -> None:
        """Stops the bar; its last state stays on the screen, lines follow below it."""
        if self.progress:
            with suppress(OSError):  # the terminal was closed
                self.progress.stop()

    def row(self, step: int, row: Mapping[str, Any], per_second: float) -> None:
        """One row of metrics: into the bar, or as a line where there is none; and into the log."""
        if self.progress is not None and self.task is not None:
            numbers = f"{_format_row(row)}  {per_second:.0f} steps/s"
            self.progress.update(self.task, completed=step, numbers=numbers)
        speed = f"  {per_second:.0f} steps/s" if per_second else ""
        LOG.info("step %6d  %s%s", step, _format_row(row), speed, extra={"file_only": self.live})


class _LogFileHandler(logging.FileHandler):
    """Lines into run.log. A full disk costs them, and nothing else: what must be written, and
    cannot be, says so itself.

    Raises:
        OutputError, UnsafeError: the file cannot be opened.
    """

    def _open(self) -> TextIO:
        path = Path(self.baseFilename)
        return open_log(path.parent, path.name)

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _PlainHandler(logging.StreamHandler):
    """Lines as they are. Where they cannot be written, since the reader left, as `| head` does, or
    the disk is full, nobody sees the rest of them, and training goes on."""

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], OSError):
            silence_stdout()
        else:
            super().handleError(record)


def print_line(line: str) -> None:
    """Prints a line unless the reader has closed the pipe."""
    try:
        print(line, flush=True)
    except OSError:
        silence_stdout()


def _terminal_handler(console: Console, live: bool) -> logging.Handler:
    """With a live bar, lines are printed through its console; else they are plain."""
    handler: logging.Handler
    if live:
        handler = RichHandler(
            console=console, show_time=False, show_level=False, show_path=False, highlighter=None
        )
    else:
        handler = _PlainHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: not getattr(record, "file_only", False))
    return handler


def _progress_bar(console: Console) -> Progress:
    return Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[numbers]}"),
        console=console,
        refresh_per_second=4,
    )
