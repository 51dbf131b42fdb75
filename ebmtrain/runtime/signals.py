"""Signals that ask a run to end: it finishes its step, saves, and leaves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TerminationSignal(KeyboardInterrupt):
    """A signal asked this process to end, and nothing has to be saved before."""

    def __init__(self, number: int):
        super().__init__()
        self.signal = number


def _raise(number: int, frame: FrameType | None = None) -> None:
    """The handler that raises."""
    raise TerminationSignal(number)


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Within this context each of SIGINT, SIGTERM and SIGHUP raises `TerminationSignal`. That holds
    also where the system would end the process (SIGTERM) or a shell ignores the signal (SIGINT in a
    background job)."""
    before = _install(_raise)
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def block_signals() -> Iterator[None]:
    """While in here none of these signals comes to this thread or to what it starts; those that
    came meanwhile come at the end (or at once, where another thread can take them). A terminal
    sends them to all processes of a command, and a compiler that dies of one would change what the
    run does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopRequest:
    """While in its context, `signal` holds the first such signal that came, else None. Runs side by
    side share one, whose context each of them enters.

    A second one ends the process at once, with the checkpoint before it intact. Outside of the
    main thread Python hears no signals, and nothing is changed.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.at_once = False
        self._before: dict[int, Any] = {}
        self._entered = 0

    def __enter__(self) -> StopRequest:
        if not self._entered:
            self._before = _install(self._heard)
        self._entered += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entered -= 1
        if not self._entered:
            _restore(self._before)

    def raise_from_now_on(self) -> None:
        """From here on a signal ends what goes on, however long it would have taken.

        Raises:
            TerminationSignal: there was one already.
        """
        self.at_once = True
        if self.signal is not None:
            _raise(self.signal)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        _restore(self._before)  # the next one does what it always did
        if self.at_once:
            _raise(number)


def _install(handler: Any) -> dict[int, Any]:
    """Makes it the handler of all of these signals; returns those of before. A hang-up that is
    ignored stays ignored: `nohup ebmtrain` is to go on when its terminal closes."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [n for n in _SIGNALS if not (ignored and n == signal.SIGHUP)]
    return {number: signal.signal(number, handler) for number in numbers}


def _restore(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
