"""Standard output and error, whatever they are connected to."""

from __future__ import annotations

import io
import os
import sys


def repair_streams() -> None:
    """A stream that was closed (`>&-`) leads nowhere, or the next file that is opened, a
    checkpoint say, would be standard output; what a terminal's alphabet lacks is shown as `?`."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def silence_stdout() -> None:
    """Nothing more to standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
