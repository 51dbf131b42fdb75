"""`ebmtrain search`: the space, trials that several processes share, and their table."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from forked import Child

from ebmtrain.cli import search
from ebmtrain.cli.main import main
from ebmtrain.cli.search_journal import open_journal
from ebmtrain.cli.search_space import Dimension, parse_space
from ebmtrain.errors import ConfigError
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.storage.atomic_io import lock_directory
from ebmtrain.runs.storage.rundir import RunDir

LR = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
FOLDER = "hydra.sweep.dir=found"
SHORT = ("train.steps=4", "checkpoint.every=2", "plots.every=0")


@pytest.mark.parametrize(
    ("text", "method", "arguments", "ends"),
    [
        ("a=x,y", "suggest_categorical", {"choices": ("x", "y")}, ["a=x", "a=y"]),
        ("a=choice(1,'b c')", "suggest_categorical", {"choices": ("1", r"b\ c")},
         ["a=1", r"a=b\ c"]),
        ("+a=[1,2],[3]", "suggest_categorical", {"choices": ("[1,2]", "[3]")},
         ["+a=[1,2]", "+a=[3]"]),
        ("a=range(2,12,2)", "suggest_int", {"low": 2, "high": 10, "step": 2}, ["a=2", "a=10"]),
        ("a=range(2,11,3)", "suggest_int", {"low": 2, "high": 8, "step": 3}, ["a=2", "a=8"]),
        ("a=range(0.5,2,0.5)", "suggest_float", {"low": 0.5, "high": 1.5, "step": 0.5},
         ["a=0.5", "a=1.5"]),
        ("a=tag(log,range(1,9))", "suggest_int", {"low": 1, "high": 8, "step": 1, "log": True},
         ["a=1", "a=8"]),
        ("a=interval(0,1)", "suggest_float", {"low": 0.0, "high": 1.0}, ["a=0.0", "a=1.0"]),
        ("a=int(interval(1,9))", "suggest_int", {"low": 1, "high": 9}, ["a=1", "a=9"]),
        ("a=tag(log,interval(1e-4,1e-1))", "suggest_float",
         {"low": 1e-4, "high": 0.1, "log": True}, ["a=0.0001", "a=0.1"]),
    ],
)  # fmt: skip
def test_the_grammar_of_hydra_is_the_space(text, method, arguments, ends):
    space, fixed = parse_space(["b=1", text, "c=[1,2]"])
    assert fixed == ["b=1", "c=[1,2]"]
    (dimension,) = space
    assert dimension == Dimension(text.partition("=")[0], method, arguments)
    assert dimension.ends() == ends
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        key, _, value = dimension.argument(trial).partition("=")
        assert key == dimension.key
        if "low" in arguments:
            assert arguments["low"] <= float(value) <= arguments["high"]
        else:
            assert value in arguments["choices"]
        assert dimension.argument(trial) == f"{key}={value}"  # a trial keeps its value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a=1"], "no option has several values: give key=choice(a,b)"),
        (["seed=1,2"], "a search has the seeds of search.seeds=N"),
        (["hydra.sweep.dir=a,b"], "options of Hydra are the same in all trials"),
        (["a=1,2", "a=interval(0,1)"], "a is given several values twice"),
        (["a=glob(*)"], "a=glob(*) is no space"),
        (["a=interval(5,1)"], "is no interval: give interval(low,high) with low < high"),
        (["a=interval(1,inf)"], "is no interval"),
        (["a=range(3,1)"], "has no values"),
        (["a=range(3,1,-1)"], "has no values: give range(start,stop,step) with step > 0"),
        (["a=tag(log,interval(0,1))"], "the logarithm needs numbers above 0"),
        (["a=tag(log,range(1,9,2))"], "a log range has whole numbers and step 1"),
        (["a=tag(log,choice(1,2))"], "the only tag is log"),
        (["a=tag(fast,interval(1,2))"], "the only tag is log"),
        (["a=shuffle(range(4))"], "a search has no order"),
    ],
)
def test_what_is_no_space_is_refused(words, message):
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as refused:
        parse_space(words)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((LR, "search.trials=0"), "search.trials=0 is no number of trials: give 1 or more"),
        ((LR, "search.seed=2"), "did you mean search.seeds?"),
        ((LR, "search.metric=kl"), "a search minimizes checkpoint.best: checkpoint.best=kl"),
        ((LR, "hydra.run.dir=x"), "of Hydra's options a search has hydra.sweep.dir=FOLDER"),
        ((LR, "train.ensemble=2"), "a trial has search.seeds=N"),
        ((LR, "train.stps=3"), "unknown key train.stps; did you mean train.steps?"),
        (("optimizer.lr=interval(-1,1)",), "optimizer.lr"),
        (("sampler=mala,hmcc",), "hmcc"),
        (("optimizer.lr=interval(1,",), "cannot be read"),
        (("method.k=range(1,3)", "dataset=file", "dataset.path=none.csv"), "none.csv"),
    ],
)
def test_bad_arguments_leave_nothing_behind(command, folder: Path, words, message):
    outcome = command("search", *words, FOLDER)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1), outcome.err
    assert message in outcome.err
    assert list(folder.iterdir()) == []


def test_the_extra_is_named_where_optuna_is_missing(command, folder: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    outcome = command("search", LR)
    assert outcome.code == 2
    assert outcome.err.endswith("pip install 'ebmtrain[search]'\n")
    assert len(outcome.err.splitlines()) == 1
    assert list(folder.iterdir()) == []


def journal(found: Path) -> list[optuna.trial.FrozenTrial]:
    storage = open_journal(found / "journal.log")
    return optuna.load_study(study_name="search", storage=storage).trials


def objective(run: Path) -> float:
    return json.loads((run / "result.json").read_text())["best"]["value"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_small_search(command, folder: Path, tiny):
    """Three trials of one seed, a fourth by the same command, and the commands that do not fit."""
    words = ("search", *tiny, *SHORT, LR, "method.k=range(1,3)", FOLDER)
    outcome = command(*words, "search.trials=3")
    assert (outcome.code, outcome.err) == (0, "")
    found = folder / "found"
    with (found / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["trial"] for row in rows) == ["0", "1", "2"]
    values = [objective(found / row["trial"] / "seed=0") for row in rows]
    assert values == sorted(values)
    assert [float(row["objective"]) for row in rows] == pytest.approx(values, rel=1e-5)
    config = RunDir(found / rows[0]["trial"] / "seed=0").config()
    assert (str(config["optimizer"]["lr"]), str(config["method"]["k"])) == (
        rows[0]["optimizer.lr"], rows[0]["method.k"],
    )  # fmt: skip
    assert outcome.lines[-1].startswith("best     ebmtrain model.width=8 ")
    assert (
        f"optimizer.lr={rows[0]['optimizer.lr']} method.k={rows[0]['method.k']}"
        in (outcome.lines[-1])
    )
    for name in ("summary.csv", "report.html"):
        assert (found / name).is_file()
    assert command(*words, "search.trials=4").code == 0
    assert [t.number for t in journal(found)] == [0, 1, 2, 3]
    assert [t.params for t in journal(found)[:3]] == [
        {"optimizer.lr": float(r["optimizer.lr"]), "method.k": int(r["method.k"])}
        for r in sorted(rows, key=lambda row: row["trial"])
    ]
    with (found / "journal.log").open("a") as file:
        file.write("{}\nno JSON\n{}\n")
    damaged = command(*words, "search.trials=5")
    assert (damaged.code, "found/journal.log cannot be read" in damaged.err) == (2, True)
    other = command("search", *tiny, *SHORT, LR, FOLDER)
    assert other.code == 2
    assert "found holds the search of other arguments" in other.err
    resumed = command("resume", "found")
    assert (resumed.code, "found is a search: repeat its command" in resumed.err) == (2, True)
    (folder / "taken").mkdir()
    (folder / "taken/notes.txt").write_text("mine")
    taken = command(*words[:-1], "hydra.sweep.dir=taken")
    assert "taken is not an empty folder: choose another hydra.sweep.dir" in taken.err
    assert [p.name for p in (folder / "taken").iterdir()] == ["notes.txt"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_trial_that_diverges_is_the_worst(command, folder: Path, tiny):
    words = (*tiny, *SHORT, "optimizer.lr=1e-3,1e30", "search.trials=3", "search.seeds=2", FOLDER)
    assert command("search", *words).code == 0
    with (folder / "found/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["state"] for row in rows} == {"finished", "failed"}
    assert float(rows[0]["optimizer.lr"]) == 1e-3
    for row in rows:
        assert (row["state"] == "failed") == (float(row["optimizer.lr"]) == 1e30)
        second = folder / "found" / row["trial"] / "seed=1"
        assert second.exists() == (row["state"] == "finished")


def test_a_trial_above_the_median_begins_no_further_seed(command, folder: Path, tiny, monkeypatch):
    seeds: dict[int, list[Path]] = {}

    def value(self, number: int, words, path: Path) -> float:
        seeds.setdefault(number, []).append(path)
        return float(number)

    monkeypatch.setattr("ebmtrain.cli.search._Search._value", value)
    words = (LR, "search.trials=8", "search.seeds=2", FOLDER)
    assert command("search", *tiny, *words).code == 0
    trials = journal(folder / "found")
    assert [t.state.name for t in trials] == ["COMPLETE"] * 5 + ["PRUNED"] * 3
    assert [len(seeds[t.number]) for t in trials] == [2] * 5 + [1] * 3


# Shared by processes


def worker(words: list[str], kill_at_save: int = 0) -> Callable[[], int]:
    """Runs the command; the process kills itself before this checkpoint."""

    def work() -> int:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("draw_landscape", "draw_all"):
                patch.setattr(RunFigures, name, lambda *_: [])
            patch.setattr("ebmtrain.runs.report.write.figures", lambda *_: [])
            save, calls = RunDir.save_checkpoint, []

            def counted(*arguments, **named):
                calls.append(1)
                if len(calls) == kill_at_save:
                    os.kill(os.getpid(), signal.SIGKILL)
                return save(*arguments, **named)

            patch.setattr(RunDir, "save_checkpoint", counted)
            return main(words)

    return work


@pytest.mark.slow
def test_two_processes_share_a_search_and_a_killed_one_loses_nothing(folder: Path, tiny):
    words = ["search", *tiny, *SHORT, LR, "search.seeds=2", FOLDER, "search.trials=4"]
    killed = Child(worker(words, kill_at_save=4), folder)
    assert killed.ended().code == -signal.SIGKILL
    found = folder / "found"
    (begun,) = journal(found)
    assert begun.state.name == "RUNNING"
    rows = (found / "0/seed=0/metrics.jsonl").read_text()
    folders = [folder / name for name in ("one", "two")]
    for place in folders:
        place.mkdir()
    children = [Child(worker(words), place) for place in folders]
    ended = [child.ended() for child in children]
    assert [e.err for e in ended] == ["", ""]
    assert [e.code for e in ended] == [0, 0]
    trials = journal(found)
    assert [t.number for t in trials] == list(range(4))
    assert {t.state.name for t in trials} <= {"COMPLETE", "PRUNED"}
    assert trials[0].params == begun.params
    assert (found / "0/seed=0/metrics.jsonl").read_text().startswith(rows.splitlines()[0])
    lines = [line for e in ended for line in e.out.splitlines() if line.startswith("trial ")]
    runs = sorted(line.split()[1] + line.split()[3] for line in lines if " seed=" in line)
    assert len(runs) == len(set(runs))  # no run twice
    assert len({str(t.params) for t in trials}) == 4  # processes do not propose the same values
    for trial in trials:
        values = [objective(path) for path in sorted((found / str(trial.number)).glob("seed=*"))]
        assert max(trial.intermediate_values.values()) == pytest.approx(
            max(sum(values[: i + 1]) / (i + 1) for i in range(len(values)))
        )


def test_a_trial_that_another_process_holds_is_passed_over(
    command, folder: Path, tiny, monkeypatch
):
    def leave(self, number: int) -> bool:
        raise KeyboardInterrupt

    words = ("search", *tiny, LR, "search.trials=1", FOLDER)
    with monkeypatch.context() as patch:
        patch.setattr(search._Search, "_take", leave)
        assert command(*words).code == 128 + signal.SIGINT
    with lock_directory(folder / "found/0"):
        outcome = command(*words)
    assert outcome.lines == ["search   found  (1 of 1 trial in progress elsewhere)"]
    assert not (folder / "found/0/seed=0").exists()
