"""Signals that arrive where Python drops exceptions."""

from __future__ import annotations

import os
import signal
import time
import weakref
from contextlib import nullcontext

import pytest
from processes import HANG_S

from ebmtrain.runtime.signals import (
    Interruption,
    StopRequest,
    TerminationSignal,
    interruptible,
    raise_on_signals,
)


class Event:
    """Something that a weak reference refers to."""


def send_in_a_callback() -> None:
    """The process sends itself SIGTERM in the callback of a weak reference."""
    event = Event()
    reference = weakref.ref(event, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    del event
    assert reference() is None


def work_on() -> None:
    send_in_a_callback()
    work()


def raise_at_once(stop: StopRequest) -> None:
    send_in_a_callback()
    raise Interruption(signal.SIGTERM, stop)  # before the dropped one is raised again


def work(seconds: float = HANG_S) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass


def test_a_verb_ends(capfd):
    with raise_on_signals(), pytest.raises(TerminationSignal) as caught:
        work_on()
    assert caught.value.signal == signal.SIGTERM
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("found", ["by the request", "in the context of a run"])
def test_the_work_of_a_run_is_interrupted(found, capfd):
    with StopRequest() as stop:
        outer = nullcontext() if found == "by the request" else stop.in_this_context()
        inner = stop.interruptible if found == "by the request" else interruptible
        with outer, pytest.raises(Interruption), inner():
            work_on()
        assert stop.signal == signal.SIGTERM
        with pytest.raises(Interruption), stop.interruptible():
            raise AssertionError("the context was entered after a signal")
    assert capfd.readouterr().err == ""


def test_nothing_is_raised_where_the_state_changes():
    with StopRequest() as stop:
        with pytest.raises(Interruption), stop.interruptible():
            raise_at_once(stop)
        work(0.1)
        assert stop.signal == signal.SIGTERM


def test_the_function_does_nothing_outside_of_a_run():
    with StopRequest() as stop, interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
        work(0.01)
    assert stop.signal == signal.SIGTERM
