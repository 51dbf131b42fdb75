"""benchmarks/quality.py: a curve of KL against seconds, and what is read off it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import HANG_S
from torch import nn

QUALITY = Path(__file__).resolve().parents[2] / "benchmarks" / "quality.py"


@pytest.fixture
def quality(monkeypatch):
    monkeypatch.syspath_prepend(str(QUALITY.parent))
    import quality

    return quality


@pytest.mark.slow
def test_a_run_has_a_curve_from_the_start_of_its_process(tmp_path):
    out, began = tmp_path / "q.json", time.monotonic()
    told = subprocess.run(
        [sys.executable, QUALITY, "--tools", "ebmtrain", "--seeds", "1", "--seconds", "0.1",
         "--out", out],
        capture_output=True, text=True, timeout=HANG_S,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    (one,) = json.loads(out.read_text())["runs"]
    ((seconds, step, kl),) = one["curve"]  # its time is over with the first update
    assert 0.1 < seconds < time.monotonic() - began
    assert step == 1
    assert kl > 0.5
    assert "| ebmtrain, its default run | never | never | never |" in told.stdout
    assert out.with_suffix(".png").exists()


def test_copies_lie_a_factor_apart_and_hold_still(quality, monkeypatch):
    import quality_run

    clock = iter(range(1, 1000))
    monkeypatch.setattr(quality_run.time, "monotonic", lambda: next(clock))

    def training(updates: int):
        model = nn.Linear(1, 1, bias=False)
        for i in range(updates):
            model.weight.data.fill_(i + 1)
            yield model

    found = quality_run.copies(training(10**6), seconds=30, began=0)
    assert [step for _, step, _ in found] == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        9,
        11,
        13,
        15,
        18,
        21,
        25,
        29,
        30,
    ]
    assert all(now == step == int(model.weight) for now, step, model in found)
    clock = iter(range(1, 1000))
    assert [step for _, step, _ in quality_run.copies(training(10), 30, 0)][-2:] == [9, 10]


def test_what_is_read_off_curves(quality):
    curves = [[[1.0, 1, 2.0], [2.0, 50, 0.08], [4.0, 99, 0.2], [8.0, 200, 0.01]],
              [[1.0, 1, None], [2.0, 40, 0.5], [10.0, 300, 0.09]]]  # fmt: skip
    assert quality.seconds_to(curves[0], 0.1) == 2.0
    assert quality.seconds_to(curves[0], 0.05) == 8.0
    assert quality.seconds_to(curves[1], 0.05) == math.inf
    runs = [{"tool": "by_hand", "seed": i, "curve": c, "reason": None}
            for i, c in enumerate(curves)]  # fmt: skip
    runs.append({"tool": "torchebm", "seed": 0, "curve": [], "reason": "torchebm not installed"})
    results = {"date": "", "machine": "", "seconds": 60, "seeds": 2, "versions": {}, "runs": runs}
    lines = quality.table(results).splitlines()
    cells = "6.0 (10.0) | never (never) | never (never) | 0.05 (0.09) | 9 | 250 |"
    assert lines[-3] == f"| the tutorials' loop | {cells}"
    assert lines[-1] == "Without curves: torchebm, seed 0 (torchebm not installed)."
    times, logs = quality.together(curves)
    assert times[[0, -1]] == pytest.approx([1.0, 8.0])
    assert 10 ** logs[0, -1] == pytest.approx(0.01)
    assert math.isnan(logs[1, 0])
    assert quality.page.PAGE.read_text().count("<!-- end of quality -->") == 1
