"""What a process finds at its start: closed streams, narrow encodings, a deleted folder."""

from __future__ import annotations

import io
import os
import sys


def repair_streams() -> None:
    """Opens closed streams (`>&-`) on the null device, and prints `?` for characters that the
    encoding of a stream does not have.

    Without this the next file that is opened, such as a checkpoint, would become standard output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def silence_stdout() -> None:
    """Discards everything written to standard output from now on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def leave_deleted_folder() -> bool:
    """Leaves the current folder if it was deleted, as libraries ask for its name.

    Returns:
        True if it was deleted. The process is then in a folder in which nothing can be created:
        absolute paths work, relative ones fail.
    """
    try:
        os.getcwd()  # noqa: PTH109  this module imports no pathlib
    except FileNotFoundError:
        os.chdir("/dev/fd")
        return True
    return False
