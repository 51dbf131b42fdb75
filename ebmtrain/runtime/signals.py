"""Termination signals: a run that receives one saves a checkpoint and exits."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TerminationSignal(KeyboardInterrupt):
    """A signal asked this process to end, and there is nothing to save first."""

    def __init__(self, number: int, request: StopRequest | None = None):
        super().__init__()
        self.signal = number
        self.request = request
        """The request that raised it; None: `raise_on_signals` did."""


class Interruption(TerminationSignal):
    """The first signal, received within `interruptible`: the run saves its state and ends."""


def _raise(number: int, frame: FrameType | None = None) -> None:
    """A signal handler that raises `TerminationSignal`."""
    raise TerminationSignal(number)


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Within this context each of SIGINT, SIGTERM and SIGHUP raises `TerminationSignal`,
    SIGINT also in a background job, where the shell ignores it."""
    before, hook = _install(_raise), sys.unraisablehook
    sys.unraisablehook = _raise_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        _restore(before)


def _raise_again(dropped: Any) -> None:
    """A hook for exceptions that Python drops, as those in a callback of a weak reference: raises
    a termination signal again 10 ms later, outside of the callback."""
    error = dropped.exc_value
    if not isinstance(error, TerminationSignal):
        sys.__unraisablehook__(dropped)
        return

    def on_alarm(*_: object) -> None:
        kind = error.request.raises if error.request else type(error)
        if kind is not None:
            raise kind(error.signal, error.request)

    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.01)


class StopRequest:
    """Within this context, `signal` is the first termination signal received, or None.

    Runs in one process may share an instance and enter it several times. A second signal ends the
    process at once; the last checkpoint stays intact. Outside of the main thread Python handles no
    signals, and the context changes nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.raises: type[TerminationSignal] | None = None
        """What a signal raises at once; None: it is noted in `signal` only."""
        self._previous: dict[int, Any] = {}
        self._hook = sys.unraisablehook
        self._depth = 0

    def __enter__(self) -> StopRequest:
        if not self._depth:
            self._previous = _install(self._receive)
            self._hook, sys.unraisablehook = sys.unraisablehook, _raise_again
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            sys.unraisablehook = self._hook
            _restore(self._previous)

    def raise_from_now_on(self) -> None:
        """From now on a signal raises `TerminationSignal` at once, as does one received before."""
        self.raises = TerminationSignal
        if self.signal is not None:
            _raise(self.signal)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within this context a signal raises `Interruption` at once.

        Raises:
            Interruption: a signal was received, before or within the context.
        """
        before, self.raises = self.raises, self.raises or Interruption
        try:
            if self.signal is not None:
                raise self.raises(self.signal, self)
            yield
        finally:
            self.raises = before

    @contextmanager
    def in_this_context(self) -> Iterator[None]:
        """Within this context the function `interruptible` refers to this request."""
        _current.set(self)
        try:
            yield
        finally:
            _current.set(None)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        _restore(self._previous)  # the next signal has its default effect
        if self.raises:
            raise self.raises(number, self)


_current: ContextVar[StopRequest | None] = ContextVar("the run's stop request", default=None)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within this context a signal interrupts the run's work at once: it raises `Interruption`.

    For work that changes nothing that a checkpoint holds, or whose caller restores it: evaluations,
    figures, chains, compilation. Without effect outside of a run (see
    `StopRequest.in_this_context`).
    """
    stop = _current.get()
    if stop is None:
        yield
        return
    with stop.interruptible():
        yield


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
