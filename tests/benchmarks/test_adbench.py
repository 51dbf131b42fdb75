"""benchmarks/adbench.py prints a row for each table of a folder, on the same splits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import HANG_S

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "adbench.py"


@pytest.mark.slow
def test_distant_anomalies_are_found_by_all(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(120, 3)), np.arange(120) % 10 == 0
    np.savez(tmp_path / "far.npz", X=x + 30 * y[:, None], y=y.astype(int))
    told = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, "train.steps=5", "model.components=8"],
        capture_output=True, text=True, timeout=HANG_S, env=os.environ,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "| far | 1.000 | 1.000 | 1.000 | 1.000 |" in told.stdout
    assert "above kNN-5 on 0 of 1 tables" in told.stdout
