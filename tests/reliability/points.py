"""The points at which a run can die, by their names, and how to die there.

In a process of its own: what the run calls is wrapped here, so that the product knows nothing of
it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import ebmtrain.runs.launch
from ebmtrain.runs.session import Session

CALLS = ("open", "write", "fsync", "replace", "unlink", "mkdir")
EVENTS = (
    "evaluate", "log", "plot", "save", "_run_evaluations", "_write_samples_and_figures", "_result",
)  # fmt: skip


class Points:
    """Counts what is passed; at the point of the number `fatal` the process kills itself."""

    def __init__(self, root: Path, fatal: int | None):
        self.root = os.path.realpath(root)
        self.fatal = fatal
        self.passed: list[str] = []

    def reach(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, holder: Any, attribute: str, name: Callable[..., str | None]) -> None:
        """Points before and after a call; none where `name` of its arguments is None."""
        original = getattr(holder, attribute)

        @wraps(original)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            place = name(*arguments, **named)
            if place is None:
                return original(*arguments, **named)
            self.reach(f"before {attribute} {place}")
            value = self.halved(original, *arguments, **named) or original(*arguments, **named)
            self.reach(f"after {attribute} {place}")
            return value

        setattr(holder, attribute, wrapped)

    def halved(self, original: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        """A write may be cut in two. Returns what such a write returns; None: it is none."""
        if original.__name__ != "write" or len(arguments) != 2 or len(arguments[1]) < 2:
            return None
        descriptor, data = arguments
        half = len(data) // 2
        done = original(descriptor, data[:half])
        self.reach(f"within write {self.place(descriptor)}")
        return done + original(descriptor, data[half:])

    def place(
        self,
        target: Any,
        *_: Any,
        dir_fd: int | None = None,
        src_dir_fd: int | None = None,
        **__: Any,
    ) -> str | None:
        """A file of the run, by a name that does not change from run to run; None: none of it."""
        above = src_dir_fd if dir_fd is None else dir_fd
        path = f"/proc/self/fd/{target}" if isinstance(target, int) else os.fspath(target)
        path = path if above is None else f"/proc/self/fd/{above}/{path}"
        path = os.path.realpath(path)
        if path != self.root and not path.startswith(self.root + os.sep):
            return None
        name = os.path.relpath(path, self.root)
        folder, _, file = name.rpartition("/")
        if file.endswith(".tmp"):
            file = file.removeprefix(".").rsplit(".", 2)[0] + " (new)"
        digits = "".join("0" if letter.isdigit() else letter for letter in file)
        return f"{folder}/{digits}" if folder else digits

    def watch(self) -> None:
        for call in CALLS:
            self.wrap(os, call, self.place)
        for event in EVENTS:
            self.wrap(Session, event, lambda *_, **__: "")
        self.wrap(ebmtrain.runs.launch, "train_step", lambda *_, **__: "")
