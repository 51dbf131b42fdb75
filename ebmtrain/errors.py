"""What goes wrong in ways that a user can mend, with the exit code that scripts see.

Each message is one line: the value, the cause, the remedy.
"""

from __future__ import annotations


class EbmtrainError(Exception):
    """Base of all: shown as one line, without a traceback."""

    exit_code = 1


class ConfigError(EbmtrainError):
    """The configuration cannot be used."""

    exit_code = 2


class DataError(EbmtrainError, ValueError):
    """The data cannot be used."""

    exit_code = 2


class DivergedError(EbmtrainError):
    """Training ran away: a loss, gradient or energy is not finite or beyond all bounds."""

    exit_code = 3


class CheckpointError(EbmtrainError):
    """No checkpoint that can be used."""

    exit_code = 4


class LockedError(EbmtrainError):
    """Another process works in this run directory."""

    exit_code = 5


class OutputError(EbmtrainError):
    """A file could not be written."""

    exit_code = 6


class UnsafeError(EbmtrainError):
    """A run directory asks for something that opening it must not do."""

    exit_code = 7


def reason(error: BaseException) -> str:
    """Its kind and what it says, on one line, for a warning."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def out_of_memory(error: BaseException) -> bool:
    """Python, NumPy and torch, on a processor or an accelerator, say it in their own ways."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(words in str(error) for words in NO_MEMORY)


NO_MEMORY = ("allocate memory", "not enough memory", "size calculation overflowed")
