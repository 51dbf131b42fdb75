"""Console output of a run: lines and, on a terminal, a progress bar below them."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ebmtrain.runs.storage.atomic_io import open_log
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.runtime.stdio import silence_stdout

LOG = logging.getLogger("ebmtrain")
_ACTIVE_CONSOLE: ContextVar[RunConsole | None] = ContextVar("active console", default=None)
"""The console of the current context: runs side by side have a context each."""

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
    """The main numbers of a row, in one line."""
    shown = ((label, row.get(name)) for name, label in _METRIC_LABELS.items())
    return "  ".join(
        f"{label} {value:.4g}"
        for label, value in shown
        if isinstance(value, int | float) and not (label == "clipped" and value == 0)
    )


class RunConsole:
    """A logger and a context in which log records of this run, and those outside of any run, go to
    the terminal and to run.log.

    Args:
        run: its run.log gets the lines.
        quiet: prints nothing to the terminal, as for jobs of a sweep.
        n_steps: length of the progress bar; 0: no bar.
        step: the first step of this session.
    """

    def __init__(self, run: RunDir, *, quiet: bool = False, n_steps: int = 0, step: int = 0):
        self.outer: RunConsole | None = None
        console = Console(stderr=False, soft_wrap=True)
        self.live = console.is_terminal and not quiet and n_steps > 0
        self.handlers: list[logging.Handler] = [_LogFileHandler(run)]
        self.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        if not quiet:
            self.handlers.append(_terminal_handler(console, self.live))
        for handler in self.handlers:
            handler.addFilter(lambda _: _ACTIVE_CONSOLE.get() in (self, None))
        self.progress = _progress_bar(console) if self.live else None
        self.task = self.progress.add_task("", total=n_steps, numbers="") if self.progress else None
        self._time, self._step = time.perf_counter(), step

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
        self.close()
        _ACTIVE_CONSOLE.set(self.outer)
        for handler in self.handlers:
            LOG.removeHandler(handler)
            with suppress(OSError):  # lines that did not fit on the disk
                handler.close()

    def rewind(self, step: int) -> None:
        """Counts the updates of the next row from this step."""
        self._step = step

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        """Logs a row with the updates per second since the previous one; shows it in the bar, or as
        a line if there is no bar."""
        now = time.perf_counter()
        per_second = (step - self._step) / max(now - self._time, 1e-9)
        self._time, self._step = now, step
        digits = ".0f" if per_second >= 10 else ".2g"
        speed = f"  {per_second:{digits}} steps/s" if per_second > 0 else ""
        text = f"{_format_row(row)}{speed}"
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=step, numbers=text)
        LOG.info("step %6d  %s", step, text, extra={"file_only": self.live})

    def figure(self, name: str, path: Path) -> None:
        """Prints nothing: the last lines of the run name the folder of its figures."""

    def close(self) -> None:
        """Stops the bar; its last state stays on the screen."""
        if self.progress:
            with suppress(OSError):  # the terminal was closed
                self.progress.stop()


class _LogFileHandler(logging.FileHandler):
    """Lines into run.log, without those that do not fit on a full disk. Raises OutputError or
    UnsafeError if the file cannot be opened."""

    def __init__(self, run: RunDir):
        self.run = run
        super().__init__(run.path / "run.log")

    def _open(self) -> TextIO:
        return open_log(self.run.path, "run.log", self.run.identity)

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _PlainHandler(logging.StreamHandler):
    """Unformatted lines. After a failed write, to a pipe that was closed or a full disk, further
    lines are discarded, and training continues."""

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], OSError):
            silence_stdout()
        else:
            super().handleError(record)


@contextmanager
def progress_lines(phase: str) -> Iterator[None]:
    """Tells that a phase without lines of its own is in progress: after 10 s, then every 30 s;
    on stderr outside of a run."""
    began, ended = time.perf_counter(), threading.Event()

    def tell() -> None:
        wait = _FIRST_LINE_SECONDS
        while not ended.wait(wait):
            line = f"{phase}: {time.perf_counter() - began:.0f} s so far"
            if LOG.handlers:
                LOG.info("%s", line)
            else:
                print(line, file=sys.stderr, flush=True)
            wait = _NEXT_LINE_SECONDS

    # In a copy of the context, whose console receives the lines.
    thread = threading.Thread(target=copy_context().run, args=(tell,), daemon=True)
    try:
        thread.start()
        yield
    finally:
        ended.set()


_FIRST_LINE_SECONDS, _NEXT_LINE_SECONDS = 10.0, 30.0


def print_line(line: str) -> None:
    """Prints a line unless the reader has closed the pipe."""
    try:
        print(line, flush=True)
    except OSError:
        silence_stdout()


def _terminal_handler(console: Console, live: bool) -> logging.Handler:
    """A handler that prints lines above a live bar, or plain lines."""
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
