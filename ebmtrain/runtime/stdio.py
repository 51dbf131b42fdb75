"""Repairs closed streams, narrow encodings and a deleted current folder."""

from __future__ import annotations

import io
import os
import sys


def repair_streams() -> None:
    """Opens closed streams (`>&-`) on the null device, as the next file to be opened would become
    standard output. Prints `?` for characters that the encoding of a stream does not have."""
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
    """True if the current folder was deleted. As libraries ask for its name, the process then moves
    to a folder in which nothing can be created: absolute paths work, relative ones fail."""
    try:
        os.getcwd()  # noqa: PTH109  this module imports no pathlib
    except FileNotFoundError:
        os.chdir("/dev/fd")
        return True
    return False
