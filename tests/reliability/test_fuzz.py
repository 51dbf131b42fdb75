"""Some of the mutated run directories of fuzzing.py, in a process that its hooks may spoil."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from processes import HANG_S


@pytest.mark.slow
def test_mutated_runs_get_a_documented_exit_code():
    program = Path(__file__).with_name("fuzzing.py")
    counts = ["--configurations", "30", "--checkpoints", "15"]
    done = subprocess.run([sys.executable, str(program), *counts], capture_output=True, text=True,
                          timeout=HANG_S)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 configurations, 0 faults" in done.stdout
    assert "15 checkpoints, 0 faults" in done.stdout
