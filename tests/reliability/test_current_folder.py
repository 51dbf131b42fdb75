"""No verb needs the current folder if all paths are absolute; and what standard output refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import HANG_S

from ebmtrain.config.build import build
from ebmtrain.runs.session import Session
from ebmtrain.runs.storage.rundir import RunDir


@pytest.fixture
def gone(folder: Path, monkeypatch) -> Path:
    """The current folder, deleted."""
    path = folder / "gone"
    path.mkdir()
    monkeypatch.chdir(path)
    path.rmdir()
    return path


@pytest.mark.slow
def test_absolute_paths_are_enough(command, folder: Path, tiny, gone):
    run = folder / "runs/one"
    for words in ([*tiny, "train.steps=2", f"hydra.run.dir={run}", "plots.gif=false"],
                  ["resume", run, "train.steps=4"], ["evaluate", run], ["plot", run],
                  ["sample", run, "count=3", f"out={folder}/points.csv"],
                  ["score", run, "--data", folder / "points.csv", "--out", folder / "scores.csv"],
                  ["report", run.parent]):  # fmt: skip
        outcome = command(*words)
        assert (outcome.code, outcome.err) == (0, "")
    assert RunDir(run).read_json("result.json")["step"] == 4
    assert (folder / "scores.csv").exists()


@pytest.mark.parametrize("words", [[], ["resume", "run"], ["report", "runs"], ["init", "presets"]])
def test_relative_paths_are_one_line(command, tiny, gone, words):
    outcome = command(*(words or [*tiny, "train.steps=2"]))
    assert outcome.code in (2, 6)
    assert outcome.err.count("\n") == 1
    assert "the current folder was deleted" in outcome.err
    assert "unexpected" not in outcome.err


@pytest.mark.usefixtures("no_pictures")
def test_the_current_folder_is_deleted_during_the_run(command, folder: Path, tiny, monkeypatch):
    here = folder / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    stops = Session.should_stop

    def delete(self: Session) -> bool:
        if here.exists():
            here.rmdir()
        return stops(self)

    monkeypatch.setattr(Session, "should_stop", delete)
    outcome = command(*tiny, "train.steps=2", f"hydra.run.dir={folder}/run")
    assert (outcome.code, outcome.err) == (0, "")
    assert not here.exists()
    assert RunDir(folder / "run").read_json("result.json")["status"] == "finished"


@pytest.mark.parametrize("words", [["list"], ["list", "model"], ["-h"]])
def test_a_full_standard_output(folder: Path, words):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ebmtrain", *words], stdout=full, stderr=subprocess.PIPE,
            text=True, timeout=HANG_S, check=False,
        )  # fmt: skip
    assert done.returncode == 6
    assert done.stderr == "ebmtrain: cannot write standard output: No space left on device\n"


def test_few_descriptors(folder: Path, tiny):
    shell = f'ulimit -n 10; exec "{sys.executable}" -m ebmtrain "$@"'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *tiny, "hydra.run.dir=run"], capture_output=True, text=True,
        timeout=HANG_S, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode in (1, 6)
    assert "Too many open files" in done.stderr
    assert "hydra.run.dir" not in done.stderr


CUBE = "dataset.density.centres=[[0,0,0],[1,1,1]]"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["evaluation.resolution=1000000"],
            "evaluation.resolution must be less than or equal to 8192",
        ),
        (["evaluation.resolution=0"], "evaluation.resolution must be"),
        (
            ["evaluation.resolution=8192", CUBE],
            "evaluation.resolution=8192 makes a grid of 8,589,934,592 points in 3 dimensions: "
            "lower it to at most 1624",
        ),
        (["evaluation.resolution=1628", CUBE], "a grid of 67,419,143 points in 3 dimensions"),
    ],
)
def test_a_resolution_that_no_memory_holds_leaves_nothing(
    command, folder: Path, tiny, words, message
):
    others = [word for word in tiny if not word.startswith("evaluation.resolution")]
    outcome = command(*others, "hydra.run.dir=run", *words)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert message in line
    assert not (folder / "run").exists()


LINE = "dataset.density.centres=[[0]]"


@pytest.mark.parametrize("words", [("1624", CUBE), ("8192",), ("8192", LINE)])
def test_the_largest_resolution_is_allowed_in_each_dimension(configured, tiny, words):
    others = [word for word in tiny if not word.startswith("evaluation.resolution")]
    assert build(configured(*others, f"evaluation.resolution={words[0]}", *words[1:])).evaluators
