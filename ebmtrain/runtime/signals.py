"""Termination signals: a run that receives one saves a checkpoint and exits."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import FrameType
from typing import Any, NoReturn

# The last three are those with which batch systems announce the end of a job's time.
SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU,
)  # fmt: skip


class TerminationSignal(KeyboardInterrupt):
    """A signal asked this process to end."""

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
    """Within this context each of SIGNALS raises `TerminationSignal`, SIGINT also in a background
    job, where the shell ignores it."""
    with _handle_signals(_raise):
        yield


@contextmanager
def _handle_signals(handler: Any) -> Iterator[dict[int, Any]]:
    """Within this context the handler receives the signals; yields the previous handlers. If Python
    drops the exception that the handler raises, it is raised again."""
    before, hook = _install(handler), sys.unraisablehook
    sys.unraisablehook = partial(_raise_again, hook)
    try:
        yield before
    finally:
        sys.unraisablehook = hook
        _restore(before)


def _raise_again(hook: Callable[[Any], Any], dropped: Any) -> None:
    """A hook for exceptions that Python drops, as those in a callback of a weak reference: raises
    a termination signal again 10 ms later, outside of the callback.

    Args:
        hook: for all other exceptions.
    """
    error = dropped.exc_value
    if not isinstance(error, TerminationSignal):
        hook(dropped)
        return
    before = signal.getsignal(signal.SIGALRM)

    def on_alarm(*_: object) -> None:
        signal.signal(signal.SIGALRM, before)
        if error.request is None:
            _raise(error.signal)
        elif not error.request.delivered and error.request.raises is not None:
            error.request.deliver(error.request.raises)

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
        self.delivered = False
        """Whether the signal was raised outside of its handler."""
        self._handlers = _handle_signals(self._receive)
        self._previous: dict[int, Any] = {}
        self._depth = 0

    def __enter__(self) -> StopRequest:
        if not self._depth:
            self._handlers = _handle_signals(self._receive)
            self._previous = self._handlers.__enter__()
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._handlers.__exit__(None, None, None)

    def raise_from_now_on(self) -> None:
        """From now on a signal raises `TerminationSignal` at once, as does one received before."""
        self.raises = TerminationSignal
        if self.signal is not None:
            self.deliver(TerminationSignal)

    def deliver(self, kind: type[TerminationSignal]) -> NoReturn:
        """Raises the signal that was received."""
        assert self.signal is not None
        self.delivered = True
        raise kind(self.signal, self)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within this context a signal raises `Interruption` at once.

        Raises:
            Interruption: a signal was received, before or within the context.
        """
        before = self.raises
        try:
            self.raises = before or Interruption
            if self.signal is not None:
                self.deliver(self.raises)
            yield
        finally:
            self.raises = before

    @contextmanager
    def in_this_context(self) -> Iterator[None]:
        """Within this context the function `interruptible` refers to this request."""
        before = _current.get()
        _current.set(self)
        try:
            yield
        finally:
            _current.set(before)

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
    numbers = [n for n in SIGNALS if not (ignored and n == signal.SIGHUP)]
    return {number: signal.signal(number, handler) for number in numbers}


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
