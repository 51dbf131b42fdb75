"""Processes that tests start and wait for."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

HANG_S = 1800
"""A process that has not ended after this time hangs. No test passes or fails by a shorter time."""

WITHOUT_PICTURES = """
from ebmtrain.cli.main import entry
from ebmtrain.runs.figures import RunFigures
RunFigures.draw_landscape = lambda *_: None
RunFigures.draw_all = lambda *_: []
entry()
"""
"""The console script, for `python -c`; drawing takes most of the time of a small run."""


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Returns once the file exists. Fails once the process has ended without it."""
    while not path.exists():
        if process.poll() is not None and not path.exists():
            raise AssertionError(f"{path} was not written: {process.communicate()}")
        time.sleep(0.01)
