"""Termination signals: a run that receives one finishes its step, saves a checkpoint and exits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TerminationSignal(KeyboardInterrupt):
    """A signal asked this process to end, and there is nothing to save first."""

    def __init__(self, number: int):
        super().__init__()
        self.signal = number


def _raise(number: int, frame: FrameType | None = None) -> None:
    """A signal handler that raises `TerminationSignal`."""
    raise TerminationSignal(number)


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Within this context each of SIGINT, SIGTERM and SIGHUP raises `TerminationSignal`,
    SIGINT also in a background job, where the shell ignores it."""
    before = _install(_raise)
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def block_signals() -> Iterator[None]:
    """Blocks these signals in this thread and in the processes that it starts.

    A signal sent in the meantime is delivered at the end, or at once to another thread. A terminal
    sends signals to all processes of a command, and a compiler stopped by one would change how the
    run continues.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopRequest:
    """Within this context, `signal` is the first termination signal received, or None.

    Runs in one process may share an instance and enter it several times. A second signal ends the
    process at once; the last checkpoint stays intact. Outside of the main thread Python handles no
    signals, and the context changes nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.raises = False
        """Whether a signal raises `TerminationSignal` at once."""
        self._previous: dict[int, Any] = {}
        self._depth = 0

    def __enter__(self) -> StopRequest:
        if not self._depth:
            self._previous = _install(self._receive)
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            _restore(self._previous)

    def raise_from_now_on(self) -> None:
        """From now on a signal raises `TerminationSignal` at once, as does one received before."""
        self.raises = True
        if self.signal is not None:
            _raise(self.signal)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        _restore(self._previous)  # the next signal has its default effect
        if self.raises:
            _raise(number)


def _install(handler: Any) -> dict[int, Any]:
    """Installs the handler for all of these signals; returns the previous handlers.

    SIGHUP stays ignored if it is: `nohup ebmtrain` continues when its terminal closes.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [n for n in _SIGNALS if not (ignored and n == signal.SIGHUP)]
    return {number: signal.signal(number, handler) for number in numbers}


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
