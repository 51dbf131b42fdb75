"""`train.ensemble`: each member is an ordinary run, in a directory of its own."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from same_state import load, rows

from ebmtrain.config.build import build
from ebmtrain.config.experiment import Experiment
from ebmtrain.runs.ensemble import _run_members
from ebmtrain.runs.launch import resume, run_experiment
from ebmtrain.runs.session import Session
from ebmtrain.runs.storage.atomic_io import lock_directory
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.types import Batch

WORDS = ("method=dsm", "train.log_every=10")
pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def members(configured) -> list[Experiment]:
    return [build(configured(*WORDS, f"seed={seed}")) for seed in (3, 4, 5)]


@pytest.fixture
def two(members) -> list[Experiment]:
    return members[:2]


def ensemble(members: list[Experiment], folder: Path) -> tuple[list[Any], int | None]:
    """What each of them ended with, and the signal."""
    found: dict[int, Any] = {}
    paths = [folder / str(experiment.seed) for experiment in members]
    stopped = _run_members(members, paths, {}, found.__setitem__, quiet=True)
    return [found[i] for i in range(len(members))], stopped


def assert_same_run(run: Path, plain: Path) -> None:
    """In float32 after 20 updates: to 1e-4, and to the very random numbers."""
    one, other = load(run / "checkpoints/last.pt"), load(plain / "checkpoints/last.pt")
    assert torch.equal(one["generator"], other["generator"])
    assert (one["step"], one["evaluations"]) == (other["step"], other["evaluations"])
    for part in ("energy", "average"):
        for name, value in other[part].items():
            torch.testing.assert_close(one[part][name], value, rtol=1e-4, atol=1e-4)
    assert [row["step"] for row in rows(run)] == [row["step"] for row in rows(plain)]


@pytest.mark.slow
def test_members_are_ordinary_runs(two, configured, tmp_path):
    results, stopped = ensemble(two, tmp_path)
    assert stopped is None
    assert [r["status"] for r in results] == ["finished"] * 2
    for experiment, result in zip(two, results, strict=True):
        run = tmp_path / str(experiment.seed)
        plain = tmp_path / f"plain {experiment.seed}"
        run_experiment(build(configured(*WORDS, f"seed={experiment.seed}")), plain, {}, quiet=True)
        assert_same_run(run, plain)
        assert json.loads((run / "result.json").read_text())["metrics"] == result["metrics"]
        log = (run / "run.log").read_text()
        assert f"seed {experiment.seed}\n" in log
        assert log.count("parameters") == 1  # none of the others' lines
        assert log.count("step     20") == 1
        assert "the updates of 2 members are made as one" in log  # said of all
    # One of them goes on, by itself.
    again = resume(tmp_path / "4", configured(*WORDS, "seed=4", "train.steps=30"), quiet=True)
    assert (again["status"], again["step"]) == ("finished", 30)


class Broken:
    """Data that are no numbers from the 12th batch on."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def batch(self, step: int, size: int, seed: int) -> Batch:
        batch = self.dataset.batch(step, size, seed)
        return batch if step < 12 else batch._replace(x=batch.x * torch.nan)


@pytest.mark.slow
def test_a_diverged_member_does_not_stop_the_others(members, configured, tmp_path):
    spec = members[1].train_spec
    assert spec is not None
    members[1] = replace(members[1], train_spec=replace(spec, dataset=Broken(spec.dataset)))
    results, _ = ensemble(members, tmp_path)
    assert "training diverged by step 20" in str(results[1])
    written = [json.loads((tmp_path / f"{n}/result.json").read_text()) for n in (3, 4, 5)]
    assert [r["status"] for r in written] == ["finished", "diverged", "finished"]
    assert "training diverged" in (tmp_path / "4/run.log").read_text()
    assert "training diverged" not in (tmp_path / "3/run.log").read_text()
    run_experiment(build(configured(*WORDS, "seed=5")), tmp_path / "plain", {}, quiet=True)
    assert_same_run(tmp_path / "5", tmp_path / "plain")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "steps"),
    [("ebmtrain.runs.session.Session.log", (1, 0)),
     ("ebmtrain.runs.session.draw_samples", (20, 20))],
)  # fmt: skip
def test_a_signal_saves_and_stops_every_member(two, tmp_path, monkeypatch, place, steps):
    """While one of them begins, or draws its final samples, which it need not finish."""
    from hydra.utils import get_object

    owner, name = get_object(place.rpartition(".")[0]), place.rpartition(".")[2]
    original, sent = getattr(owner, name), []

    def save_and_interrupt(*words: Any, **named: Any) -> Any:
        if not sent:
            sent.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*words, **named)

    monkeypatch.setattr(owner, name, save_and_interrupt)
    before = signal.getsignal(signal.SIGTERM)
    results, stopped = ensemble(two, tmp_path)
    assert signal.getsignal(signal.SIGTERM) == before
    assert stopped == signal.SIGTERM
    assert [r["status"] for r in results] == ["interrupted"] * 2
    for number, step in zip((3, 4), steps, strict=True):
        assert load(tmp_path / f"{number}/checkpoints/last.pt")["step"] == step
    assert resume(tmp_path / "4", quiet=True)["status"] == "finished"


@pytest.mark.slow
def test_a_signal_after_one_member_has_ended_saves_the_others(two, tmp_path, monkeypatch):
    """The signal comes when the first has its final samples and the second saves its last state."""
    save, number = RunDir.save_checkpoint, signal.SIGTERM

    def save_and_interrupt(
        run: RunDir, state: dict[str, Any], step: int, *words: Any, **named: Any
    ):
        if run.path.name == "4" and step == 20:
            os.kill(os.getpid(), number)
        save(run, state, step, *words, **named)

    monkeypatch.setattr(RunDir, "save_checkpoint", save_and_interrupt)
    results, stopped = ensemble(two, tmp_path)
    assert stopped == number
    assert [r["status"] for r in results] == ["finished", "interrupted"]
    assert load(tmp_path / "4/checkpoints/last.pt")["step"] == 20


@pytest.mark.slow
def test_a_second_signal_ends_immediately(two, tmp_path, monkeypatch):
    """And lets go of what each of them holds."""

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "should_stop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensemble(two, tmp_path)
    monkeypatch.undo()
    for number in (3, 4):
        with lock_directory(tmp_path / str(number)):  # which nobody holds any more
            pass
    assert resume(tmp_path / "4", quiet=True)["status"] == "finished"


# The command


@pytest.mark.slow
def test_the_command_trains_an_ensemble(command, folder: Path, tiny):
    few = [word for word in tiny if not word.startswith("method.slots")]
    ended = command(*few, "method=dsm", "train.ensemble=2", "seed=7")
    assert ended.code == 0, ended.err
    (whole,) = folder.glob("outputs/sweeps/*_five_gaussians")
    assert sorted(p.name for p in whole.glob("*_seed=*")) == ["0_seed=7", "1_seed=8"]
    assert (whole / "summary.csv").exists()
    config = (whole / "1_seed=8/config.yaml").read_text()
    assert "\nseed: 8\n" in f"\n{config}"
    assert "ensemble: null" in config
    assert "  seed: 8\n" in config  # of the data, which follow the run's
    assert sum("member 1  seed=8" in line for line in ended.lines) == 1
    assert "(2 jobs, 0 failed)" in ended.lines[-1]
    again = command("resume", str(whole / "1_seed=8"), "train.steps=24")
    assert again.code == 0, again.err
    refused = command("resume", str(whole / "1_seed=8"), "train.ensemble=2", "train.steps=30")
    assert refused.code == 2
    assert "begins new runs" in refused.err
    refused = command(*few, "method=dsm", "train.ensemble=2", f"hydra.run.dir={whole}")
    assert refused.code == 2
    assert "choose another hydra.run.dir" in refused.err


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_an_interrupted_ensemble_counts_its_members_and_shows_no_old_metrics(
    command, folder: Path, tiny, monkeypatch
):
    """KL was measured before the first update only."""
    original = Session.log

    def log_and_interrupt(self: Session, state: Any, row: Any):
        original(self, state, row)
        if state.step == 5 and self.stop.signal is None:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Session, "log", log_and_interrupt)
    few = [word for word in tiny if not word.startswith("method.slots")]
    ended = command(*few, "method=dsm", "train.ensemble=2", "evaluation.every=1000")
    assert ended.code == 128 + signal.SIGTERM
    assert "(2 jobs, 0 failed, 2 interrupted)" in ended.lines[-1]
    members = [line for line in ended.lines if line.startswith("member ")]
    assert len(members) == 2
    assert all("interrupted at step" in line and "KL" not in line for line in members)
    (table,) = folder.glob("outputs/sweeps/*/summary.csv")
    header, *rows = table.read_text().splitlines()
    assert "kl" not in header.split(",")
    assert len(rows) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train.ensemble=0"], "train.ensemble must be greater than or equal to 1, got 0"),
        (["train.ensemble=many"], "train.ensemble must be a valid integer, got 'many'"),
        (
            ["train.ensemble=2", "seed=9223372036854775807"],
            "the last seed would be 9223372036854775808",
        ),
        (["train.ensemble=2", "model=double_well", "train.steps=0"], "nothing to train"),
        (["train.ensemble=2", "train.batch_size=0"], "train.batch_size must be greater than 0"),
    ],
)
def test_invalid_ensembles_are_refused_in_one_line(command, folder: Path, words, said):
    ended = command(*words)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not list(folder.iterdir())


@pytest.mark.slow
def test_jobs_of_a_sweep_may_be_ensembles(command, folder: Path, tiny):
    few = [word for word in tiny if not word.startswith("method.slots")]
    words = (*few, "train.ensemble=2", "method=dsm", "optimizer.lr=0.01,-1", "hydra.sweep.dir=s",
             "train.steps=1")  # fmt: skip
    ended = command("-m", *words)
    assert ended.code == 1
    found = (path.parent.relative_to(folder / "s") for path in (folder / "s").rglob("result.json"))
    assert sorted(path.as_posix() for path in found) == [
        "0_optimizer.lr=0.01/0_seed=0", "0_optimizer.lr=0.01/1_seed=1", "1_optimizer.lr=-1",
    ]  # fmt: skip
    assert "must be greater than 0" in ended.out


@pytest.mark.slow
def test_check_updates_every_member_once(command, folder: Path, tiny):
    few = [word for word in tiny if not word.startswith("method.slots")]
    ended = command("check", *few, "method=dsm", "train.ensemble=2")
    assert ended.code == 0, ended.err
    assert "one step of 2 members" in ended.out
    assert not list(folder.iterdir())
