"""supervisor=retry: a run that diverges goes back to its last good state, at half the rate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from same_state import differences, load, result, rows, run_differences

from ebmtrain.config.build import build
from ebmtrain.errors import CheckpointError, DivergedError
from ebmtrain.runs.launch import resume, run_experiment
from ebmtrain.runs.session import Session
from ebmtrain.runs.storage.rundir import RunDir

pytestmark = pytest.mark.usefixtures("no_pictures")

SGD = ("optimizer=sgd", "optimizer.momentum=0", "optimizer.schedule.shape=constant")
LENGTH = ("checkpoint.every=4", "checkpoint.keep=100", "supervisor=retry", "evaluation.every=1000")
# Rates far too large, and what they need: the step to go back to and the number of halvings.
DIVERGING = {
    "pcd": (("method=pcd", *SGD, "optimizer.lr=1"), 4, 1),
    "pcd from the start": (("method=pcd", "optimizer.lr=20"), 0, 3),
    "dsm": (("method=dsm", *SGD, "optimizer.lr=100", "optimizer.schedule.warmup_steps=20"), 4, 2),
}


@pytest.fixture(scope="module", params=DIVERGING)
def retried(request, configured, tmp_path_factory) -> tuple[Path, dict[str, Any], int, int]:
    words, back_to, halvings = DIVERGING[request.param]
    config = configured(*words, *LENGTH)
    path = tmp_path_factory.mktemp("supervisor") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ebmtrain.runs.figures.RunFigures.draw_all", lambda *_: [])
        run_experiment(build(config), path, {}, quiet=True)
    return path, config, back_to, halvings


def run_killed_at(
    config: dict[str, Any], path: Path, monkeypatch, event: str, number: int = 1
) -> None:
    """A run whose process dies in an event of the session, the number-th time it comes."""
    original, seen = getattr(Session, event), []

    def kill_at(self, *arguments: Any, **named: Any) -> Any:
        answer = original(self, *arguments, **named)
        seen.append(1)
        if len(seen) == number:
            raise KeyboardInterrupt
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Session, event, kill_at)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(build(config), path, {}, quiet=True)


@pytest.mark.slow
def test_a_diverging_run_finishes_and_reports_its_retries(retried):
    path, config, back_to, halvings = retried
    told = result(path)
    assert (told["status"], told["step"]) == ("finished", 20)
    lr = config["optimizer"]["lr"]
    assert [retry["lr"] for retry in told["retries"]] == [lr / 2, lr / 4, lr / 8][:halvings]
    assert {retry["back_to"] for retry in told["retries"]} == {back_to}
    log = (path / "run.log").read_text()
    for n, retry in enumerate(told["retries"], 1):
        line = f"warning: training diverged by step {retry['step']}; retry {n} of 3: back to step"
        assert f"{line} {back_to}, at lr={retry['lr']:g}" in log
    table = rows(path)
    steps = [row["step"] for row in table]
    assert steps == sorted(set(steps))  # the way that was given up has left no rows
    assert table[-1]["retries"] == halvings


@pytest.mark.slow
def test_a_retry_equals_a_run_with_the_smaller_rate_from_there(retried, tmp_path):
    """Weights, average, moments, chains and random numbers, bit for bit."""
    path, config, back_to, halvings = retried
    copy = tmp_path / "copy"
    unsupervised = config | {"supervisor": None}
    with pytest.raises(DivergedError):
        run_experiment(build(unsupervised), copy, {}, quiet=True)
    assert load(copy / "checkpoints/last.pt")["step"] == back_to
    rate = config["optimizer"]["lr"] / 2**halvings
    smaller = unsupervised | {"optimizer": config["optimizer"] | {"lr": rate}}
    resume(copy, smaller, quiet=True)
    one, two = (load(run / "checkpoints/last.pt") for run in (path, copy))
    for name in ("step", "energy", "average", "optimizer", "method", "generator"):
        assert differences(one[name], two[name], name) == []
    rates = [
        [row["lr"] for row in rows(run) if row["step"] > 10 and "lr" in row] for run in (path, copy)
    ]
    assert rates[0] == rates[1] != []


def test_discarded_steps_are_counted(retried):
    """Every update of these costs the same number of energies."""
    path, _, back_to, _ = retried
    wasted = sum(retry["step"] - back_to for retry in result(path)["retries"])
    spent = {row["step"]: row["energy_evaluations"] for row in rows(path)}
    each = (spent[20] - spent[15]) / 5
    assert spent[20] / each == pytest.approx(20 + wasted, rel=0.1)  # pcd jumps at some steps only
    assert spent[20] > 20 * each + 0.5 * wasted * each


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "number"),
    [("restore_last_checkpoint", 1), ("on_retry", 1), ("log", 3), ("save", 12)],
)
def test_a_run_killed_around_a_retry_resumes_bit_identically(
    retried, tmp_path, monkeypatch, event, number
):
    path, config, _, halvings = retried
    run_killed_at(config, tmp_path / "run", monkeypatch, event, number)
    resume(tmp_path / "run", quiet=True)
    assert len(result(tmp_path / "run")["retries"]) == halvings
    assert run_differences(path, tmp_path / "run") == []


@pytest.mark.slow
def test_a_checkpoint_without_retries_is_detected(retried, tmp_path, monkeypatch):
    path, _, back_to, _ = retried
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    for file in (copy / "checkpoints").glob("*.pt"):
        if file.name > f"step_{back_to + 4:08d}.pt" or file.name == "last.pt":
            file.unlink()
    original = RunDir.load_checkpoint

    def without(self, path=None):
        saved, passed = original(self, path)
        return saved | {"retries": []}, passed

    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "load_checkpoint", without)
        try:
            resume(copy, quiet=True)
        except DivergedError:
            return
    assert run_differences(path, copy) != []


def test_a_run_may_diverge_after_all_retries(command, folder: Path, tiny):
    outcome = command(*tiny, *LENGTH, "optimizer.lr=1e6", "hydra.run.dir=run")
    assert outcome.code == 3
    (line,) = outcome.err.splitlines()
    assert line.startswith("ebmtrain: training diverged by step 4 after 3 retries: ")
    assert "lower optimizer.lr" in line
    assert "supervisor" not in line
    told = result(folder / "run")
    assert told["status"] == "diverged"
    assert [retry["lr"] for retry in told["retries"]] == [5e5, 2.5e5, 1.25e5]
    assert load(folder / "run/checkpoints/last.pt")["step"] == 0
    again = command("resume", "run", "optimizer.lr=0.008")  # a rate of one's own, halved as before
    assert again.code == 0
    assert rows(folder / "run")[-1]["lr"] < 0.001
    assert len(result(folder / "run")["retries"]) == 3


@pytest.mark.slow
def test_a_diverged_run_without_supervisor_mentions_it(command, folder: Path, tiny):
    outcome = command(*tiny, "optimizer.lr=1e6", "hydra.run.dir=run")
    assert outcome.code == 3
    assert outcome.err.endswith("or supervisor=retry\n")
    assert result(folder / "run")["retries"] == []
    assert "retries" not in rows(folder / "run")[-1]
    assert command("resume", "run", "supervisor=retry", "optimizer.lr=20").code == 0
    assert len(result(folder / "run")["retries"]) == 3


def test_the_supervisor_does_not_change_a_stable_run(configured, tmp_path):
    runs = []
    for supervisor in ("null", "retry"):
        runs.append(tmp_path / supervisor)
        config = configured("method=pcd", f"supervisor={supervisor}")
        run_experiment(build(config), runs[-1], {}, quiet=True)
    one, two = (load(run / "checkpoints/last.pt") for run in runs)
    for name in ("energy", "average", "optimizer", "method", "generator", "retries"):
        assert differences(one[name], two[name], name) == []
    assert rows(runs[1])[-1]["retries"] == 0


def test_a_missing_good_checkpoint_ends_the_run(configured, tmp_path, monkeypatch):
    """Nothing to go back to: the checkpoints were removed under way."""

    def remove_checkpoint(self):
        shutil.rmtree(tmp_path / "run/checkpoints")
        return False

    monkeypatch.setattr(Session, "should_stop", remove_checkpoint)
    config = configured("method=pcd", "optimizer.lr=1e6", "train.log_every=1", *LENGTH)
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        run_experiment(build(config), tmp_path / "run", {}, quiet=True)


@pytest.mark.parametrize(("event", "word"), [("evaluate", "evaluation.every=3"),
                                             ("plot", "plots.every=3")])  # fmt: skip
def test_a_diverged_state_is_not_evaluated_or_plotted(
    configured, tmp_path, monkeypatch, event, word
):
    """The first event after the divergence notices it: NaN is neither measured nor drawn."""
    made = []
    monkeypatch.setattr(
        "ebmtrain.runs.figures.RunFigures.draw_landscape", lambda *_: made.append("plot")
    )
    monkeypatch.setattr(
        "ebmtrain.runs.session.run_evaluations", lambda *_: made.append("evaluate") or ({}, [])
    )
    rare = ("train.log_every=20", "checkpoint.every=20", "evaluation.every=20", "plots.every=20")
    config = configured("method=pcd", "optimizer.lr=1e6", *rare, word)
    with pytest.raises(DivergedError, match="diverged by step 3"):
        run_experiment(build(config), tmp_path / "run", {}, quiet=True)
    assert sorted(made) == ["evaluate", "plot"]  # of step 0
