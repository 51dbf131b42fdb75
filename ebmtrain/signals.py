"""Signals that ask a run to end: it finishes its step, saves, and leaves."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """While in its context, `signal` holds the first such signal that came, else None.

    A second one ends the process at once, with the checkpoint before it intact. Outside of the
    main thread Python hears no signals, and nothing is changed.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._heard) for number in ASKED}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for heard, handler in self._before.items():
            signal.signal(heard, handler)  # the next one does what it always did
