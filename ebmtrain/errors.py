"""Errors that a user can correct, with their exit codes.

Each message is one line: the value, the cause, the remedy.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path


class EbmtrainError(Exception):
    """Base class: shown as one line, without a traceback."""

    exit_code = 1


class ConfigError(EbmtrainError):
    """The configuration cannot be used."""

    exit_code = 2


class DataError(EbmtrainError, ValueError):
    """The data cannot be used."""

    exit_code = 2


class DivergedError(EbmtrainError):
    """Training diverged: a loss, gradient or energy is not finite or exceeds its bound."""

    exit_code = 3


class CheckpointError(EbmtrainError):
    """There is no usable checkpoint."""

    exit_code = 4


class LockedError(EbmtrainError):
    """Another process uses this run directory."""

    exit_code = 5


class OutputError(EbmtrainError):
    """A file could not be written."""

    exit_code = 6


class ProcessError(EbmtrainError):
    """Another process of the same run has ended or does not answer."""


class UnsafeError(EbmtrainError):
    """A run directory requests something that is not allowed when it is opened."""

    exit_code = 7


def reason(error: BaseException) -> str:
    """The type and the message of an error on one line, for a warning."""
    return f"{type(error).__name__}: {one_line(error)}"


def one_line(error: BaseException) -> str:
    """The message of an error on one line, 300 characters of it; the type if it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of the message of an error; the type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def counted(count: int, noun: str) -> str:
    """`1 row`, `2 rows`, `2,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def out_of_memory(error: BaseException) -> bool:
    """True for the errors with which Python, NumPy and torch report that memory is exhausted, on a
    CPU or an accelerator."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(words in str(error) for words in _NO_MEMORY)


_NO_MEMORY = ("allocate memory", "not enough memory", "size calculation overflowed")


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known name, or all known names."""
    names = sorted(name for name in known if not name.endswith("._target_"))
    near = nearest(name, names)
    if near:
        return near
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 30 else ""


def nearest(name: str, names: Sequence[str]) -> str:
    """The end of a message about an unknown name: the nearest of `names`, or nothing if none is
    near.

    The nearest to a dotted name is one of the same section with the same last part, else of
    another section: sampler.target gives sampler.adaptation.target, and lr optimizer.lr.
    """
    name, names = str(name), [str(each) for each in names]  # a key in a YAML file may be a number
    section, _, end = name.rpartition(".")
    head = section.split(".")[0]
    same_end = [n for n in names if "." in n and n.rpartition(".")[2] == end]
    deeper = [n for n in same_end if section and n.split(".")[0] == head]
    if deeper or same_end:
        return f"; did you mean {min(deeper or same_end, key=len)}?"
    # The last part weighs most: train.stps is train.steps and not train. Case is ignored: PCD.
    lowered = {n.lower(): n for n in reversed(names) if not name.startswith(f"{n}.")}
    close = difflib.get_close_matches(name.lower(), lowered, 1, 0.6)
    return f"; did you mean {lowered[close[0]]}?" if close else ""


def own_code_location(error: BaseException) -> str:
    """` (FILE, line N)` of the innermost frame in a user's own file, one that is neither of
    ebmtrain nor of an installed package nor of Python; empty if there is none."""
    import sysconfig  # needed here only, as the next, and slow to import
    import traceback

    places = (Path(__file__).parent, *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
    foreign = tuple(f"{Path(place).resolve()}{os.sep}" for place in places)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.suffix == ".py" and not str(file.resolve()).startswith(foreign):
            return f" ({file}, line {frame.lineno})"
    return ""
