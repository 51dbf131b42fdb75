"""The processes that torchrun started. Imports no torch: the console command asks it first."""

from __future__ import annotations

import os
from typing import NamedTuple


class Rank(NamedTuple):
    """The place of this process among those that train one model."""

    rank: int
    """From 0; process 0 has the run directory and the console."""
    size: int
    """Number of processes."""
    local: int
    """Rank among those of this machine: the index of its GPU."""


_current: Rank | None = None


def read_environment() -> Rank | None:
    """Takes the place that torchrun gave to this process from the environment; None: torchrun did
    not start it. For the console command: a library leaves the variables to its caller.

    Variables of other launchers (RANK of MPI) alone have no effect.
    """
    global _current
    _current = None
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _current = Rank(*(int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    return _current


def current_rank() -> Rank | None:
    """What `read_environment` found; None: this process trains alone."""
    return _current


def process_count() -> int:
    """Number of processes that train one model together; 1: this one alone."""
    return 1 if _current is None else _current.size
