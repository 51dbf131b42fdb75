"""Runs of commit 0fcc4f4, see tests/fixtures/runs_of_0fcc4f4: they load, resume and report."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import pytest
import torch

import ebmtrain
from ebmtrain.runs.launch import resume
from ebmtrain.runs.report.write import report

SAVED = Path(__file__).parents[1] / "fixtures" / "runs_of_0fcc4f4"
RECORDED = json.loads((SAVED / "energies.json").read_text())


@pytest.fixture
def runs(tmp_path) -> Path:
    """A copy of the runs whose paths are those of the copy."""
    copy = tmp_path / "saved"
    shutil.copytree(SAVED, copy)
    for file in copy.rglob("*"):
        if file.suffix in (".yaml", ".json", ".log"):
            file.write_text(file.read_text().replace("@FIXTURES@", str(copy)))
    return copy / "runs"


@pytest.mark.parametrize("name", RECORDED)
def test_an_old_run_loads_with_the_same_energies(runs, name):
    recorded = RECORDED[name]
    run = ebmtrain.load(runs / name)
    shape = run.experiment.standardization.shift.shape
    x = torch.linspace(-1.5, 2.0, 3 * math.prod(shape), dtype=torch.float64).view(3, *shape)
    expected = torch.tensor(recorded["energies"], dtype=torch.float64)
    torch.testing.assert_close(run.energy(x).double(), expected, rtol=1e-5, atol=1e-5)
    assert (run.step, run.temperature) == (recorded["step"], recorded["temperature"])
    if recorded["log_z"] is None:
        assert run.log_z is None
    else:
        assert run.log_z == pytest.approx(recorded["log_z"], rel=1e-6)
    assert run.sample(5, burn_in=2).shape == (5, *shape)


@pytest.mark.parametrize(
    ("name", "steps"),
    [("interrupted", 40), ("default", 45), ("jem", 45), ("ragged", 45), ("own_preset", 45),
     ("sweep/1_method=ssm", 45), ("ensemble/1_seed=1", 45)],
)  # fmt: skip
def test_an_old_run_resumes_to_the_end(runs, no_pictures, name, steps):
    config = ebmtrain.load(runs / name).config
    train = {**config["train"], "steps": steps}
    result = resume(runs / name, {**config, "train": train}, quiet=True)
    assert (result["status"], result["step"]) == ("finished", steps)
    assert ebmtrain.load(runs / name).step == steps


@pytest.mark.parametrize(("name", "metric"), [("default", "nll"), ("composition", "log_z")])
def test_an_old_run_is_evaluated(runs, command, name, metric):
    code, _, error = command("evaluate", runs / name)
    assert code == 0, error
    found = json.loads((runs / name / "evaluation.json").read_text())["metrics"]
    before = json.loads((runs / name / "result.json").read_text())["metrics"]
    assert found[metric] == pytest.approx(before[metric], rel=1e-4, abs=1e-4)


def test_an_old_landscape_is_evaluated(runs, command):
    """Its saved log Z, -0.8084, is wrong: on 32 cells per axis the halves of a Rastrigin function
    agree by symmetry. The true value is from 2001 points per axis of [-8, 8]."""
    code, _, error = command("evaluate", runs / "landscape")
    assert code == 0, error
    found = json.loads((runs / "landscape/evaluation.json").read_text())["metrics"]
    assert found["log_z"] == pytest.approx(-0.480682, abs=1e-3)


def test_an_evaluator_under_a_former_path_runs(runs, command):
    pytest.importorskip("sklearn")
    code, _, error = command("evaluate", runs / "own_peers")
    assert code == 0, error
    assert "nll_kde" in (runs / "own_peers/evaluation.json").read_text()


def test_old_runs_are_reported(runs, no_pictures):
    report(runs, quiet=True)
    text = (runs / "summary.csv").read_text()
    rows = {row["job"]: row for row in csv.DictReader(text.splitlines())}
    assert set(rows) == set(RECORDED)
    assert {name for name, row in rows.items() if row["status"] != "finished"} == {"interrupted"}
    assert rows["sweep/1_method=ssm"]["group"]


def test_one_notice_names_all_former_paths_of_a_run(runs, lines):
    ebmtrain.load(runs / "own_preset")
    notices = [line for line in lines() if "former paths" in line]
    assert len(notices) == 1
    assert "ebmtrain.optimizers.AdamW is now ebmtrain.training.optimizers.AdamW" in notices[0]
