"""Runs a function in a child process that need not import torch again."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from processes import HANG_S


class Ended(NamedTuple):
    code: int
    """Of its exit; minus the number of the signal that killed it."""
    out: str
    err: str


class Child:
    """A process that calls `work`, whose result is its exit code.

    Args:
        work: what it does, in the working directory of this process, in a session of its own.
        terminal: a descriptor to take for its standard output, in place of a file.
    """

    def __init__(self, work: Callable[[], int], folder: Path, terminal: int | None = None):
        self.files = [folder / f"child.{name}" for name in ("out", "err")]
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self.live(work, terminal)

    def live(self, work: Callable[[], int], terminal: int | None) -> None:
        code = 99
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
            for number, path in enumerate(self.files, 1):
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                os.dup2(os.open(path, flags) if number == 2 or terminal is None else terminal,
                        number)  # fmt: skip
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)

    def ended(self, seconds: float = HANG_S) -> Ended:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                out, err = (p.read_text() if p.exists() else "" for p in self.files)
                return Ended(os.waitstatus_to_exitcode(status), out, err)
            time.sleep(0.005)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(
            f"still there after {seconds} s: {[p.read_text() for p in self.files]}"
        )
