"""Processes that tests start and wait for."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

HANG_S = 1800
"""A process that has not ended after this time hangs. No test passes or fails by a shorter time."""


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Returns once the file exists. Fails once the process has ended without it."""
    while not path.exists():
        if process.poll() is not None and not path.exists():
            raise AssertionError(f"{path} was not written: {process.communicate()}")
        time.sleep(0.01)
