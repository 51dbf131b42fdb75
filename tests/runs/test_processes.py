"""A run has the same numbers, whichever processes hold its shards: `train.shards`, torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kills import METHODS, SMALL
from processes import HANG_S
from ranks import Ranks
from same_state import differences, load, run_differences
from test_resume import TRAININGS

from ebmtrain.config.build import build
from ebmtrain.runs.launch import run_experiment
from ebmtrain.runs.team import LeadStep, lead
from ebmtrain.runtime.processes import Rank
from ebmtrain.training.loop import run_step
from ebmtrain.training.state import initial_state

WORDS = [*SMALL, "plots.every=0"]
OF_METHODS = {
    "pcd": [*METHODS["pcd"], "sampler.adaptation.target=0.6"],
    "dsm": ["method=dsm"],
    "nce": ["method=nce"],
    "jarzynski": [*METHODS["jarzynski"], "method.moved_measuring=32"],
    "jem": [*METHODS["jem"], "model.spectral_norm=true"],
}


def words_of(method: str) -> list[str]:
    small = [w for w in WORDS if method != "jem" or not w.startswith("dataset.")]
    return [*small, *OF_METHODS[method], "hydra.run.dir=run"]


def in_one_process(command, words: list[str], name: str, *more: str) -> Path:
    assert command(*words, *more, f"hydra.run.dir={name}").code == 0
    return Path(name)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("method", OF_METHODS)
def test_two_processes_leave_what_one_with_two_shards_leaves(command, folder, method):
    """Every item of the checkpoints and every row; and `train.shards=1` what null does."""
    words = words_of(method)
    one = in_one_process(command, words, "one", "train.shards=2")
    first, second = Ranks(words, folder).ended()
    assert (first.code, first.err) == (second.code, second.err) == (0, "")
    assert second.out == ""
    assert run_differences(one, folder / "run") == []
    assert (one / "config.yaml").read_text() == (folder / "run/config.yaml").read_text()
    plain = in_one_process(command, words, "plain")
    assert run_differences(plain, in_one_process(command, words, "whole", "train.shards=1")) == []
    assert differences(load(plain / "checkpoints/last.pt")["energy"],
                       load(one / "checkpoints/last.pt")["energy"])  # fmt: skip


def updates(config, shards: int, team=None, n: int = 3) -> dict:
    """The items of a checkpoint after some updates."""
    config = {**config, "train": {**config["train"], "shards": shards}}
    experiment = build(config)
    spec = experiment.train_spec
    spec = replace(spec, shards=replace(spec.shards, team=team))
    state = initial_state(spec, experiment.energy, experiment.generator("train"))
    for _ in range(n):
        run_step(spec, state, None if team is None else LeadStep(team))
    return state.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("training", [*TRAININGS, "tempering"])
def test_each_method_has_the_same_updates_in_two_processes(configured, folder, training):
    tempered = ("sampler=tempering", "sampler.replicas=8")
    config = configured(*TRAININGS.get(training, tempered), "train.steps=3")
    config["train"]["shards"] = 2

    def before(rank: int) -> None:
        if rank:
            return
        os.environ["RANK"] = "0"
        from ebmtrain.runtime import processes

        processes.read_environment()
        with lead(build(config), folder, None) as team:
            torch.save(updates(config, 2, team), folder / "two.pt")
        os._exit(0)

    assert [child.code for child in Ranks([], folder, before=before).ended()] == [0, 0]
    assert differences(updates(config, 2), load(folder / "two.pt")) == []


def stopping(update: int, *receivers: int, by: int = signal.SIGTERM):
    """Sends a signal to these processes in that update of theirs."""

    def before(rank: int) -> None:
        module = sys.modules["ebmtrain.training.loop"]
        original, calls = module._apply, []

        def function(*arguments):
            calls.append(None)
            if len(calls) == update and rank in receivers:
                os.kill(os.getpid(), by)
            return original(*arguments)

        module._apply = function

    return before


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_run_goes_on_with_fewer_or_more_processes(command, folder):
    """4 shards: in 2 processes at first, then in 1 that torchrun started, then in 4."""
    words = [*words_of("pcd"), "train.shards=4"]
    whole = in_one_process(command, words, "whole")
    stopped = Ranks(words, folder, before=stopping(3, 0)).ended()
    assert [e.code for e in stopped] == [128 + signal.SIGTERM, 0]
    (alone,) = Ranks(["resume", "run"], folder, size=1, before=stopping(3, 0)).ended()
    assert alone.code == 128 + signal.SIGTERM
    assert [(e.code, e.err) for e in Ranks(["resume", "run"], folder, size=4).ended()] == [
        (0, "")
    ] * 4
    assert run_differences(whole, folder / "run") == []


REFUSED = {
    "train.shards=3 is not a multiple of 2": ["train.shards=3"],
    "a batch of 31 points is not divisible by train.shards=2": ["train.batch_size=31"],
    "method.slots=65 is not divisible by train.shards=2: method.slots=66": ["method.slots=65"],
    "train.ensemble=2 trains several runs, and torchrun started 2": ["train.ensemble=2"],
    "train.leave_one_out=true trains several runs, and torchrun": [
        "train.leave_one_out=true", "dataset=digits"
    ],
    "a sweep trains several runs, and torchrun started 2": ["-m", "seed=0,1"],
    "an update of several shards (train.shards=2) is not compiled": ["device.compile=true"],
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_processes_cannot_share_is_refused_in_one_line(folder, message):
    small = [w for w in WORDS if "digits" not in str(REFUSED[message]) or "dataset" not in w]
    ranks = Ranks([*small, "method.slots=64", *REFUSED[message]], folder)
    first = ranks.children[0].ended()
    os.kill(ranks.children[1].pid, signal.SIGTERM)  # as torchrun does
    second = ranks.children[1].ended(60)
    assert first.code == 2
    assert first.err.startswith(f"ebmtrain: {message}")
    assert (first.err.count("\n"), first.out, second.out, second.err) == (1, "", "", "")
    assert {path.name for path in folder.iterdir()} == {"rank0", "rank1"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train.batch_size=31",), "a batch of 31 points is not divisible by train.shards=2"),
        (("method.slots=65",), "method.slots=65 is not divisible by train.shards=2"),
        (("train.ensemble=2",), "train.ensemble=2 and train.shards=2: give one of them"),
        (("device.compile=true",), "an update of several shards (train.shards=2) is not compiled"),
        (
            ("sampler=tempering", "sampler.replicas=9"),
            "sampler.replicas=9 is not divisible by train.shards=2: sampler.replicas=10",
        ),
    ],
)
def test_shards_that_do_not_divide_are_refused(command, folder, words, message):
    outcome = command(*WORDS, "method.slots=64", "train.shards=2", *words)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert message in outcome.err
    assert not list(folder.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_the_shards_of_a_run_do_not_change(command, folder):
    words = words_of("pcd")
    in_one_process(command, words, "run", "train.shards=2")
    outcome = command("resume", "run", "train.steps=20", "train.shards=4")
    assert outcome.code == 4
    assert "its train.shards is 2, not 4" in outcome.err
    in_one_process(command, words, "whole")
    first, _ = end_as_torchrun(Ranks(["resume", "whole", "train.steps=20"], folder))
    assert (first.code, "train.shards=1 is not a multiple of 2" in first.err) == (2, True)


def end_as_torchrun(ranks: Ranks):
    """What they left, after the first that ended and SIGTERM to the others."""
    ranks.first_to_end()
    return ranks.ended()


# Where a process dies: a function, and the call of it that is its last.
POINTS = {
    "before the processes connect": ("runtime.team.Team._missing", 1),
    "before the first update": ("runs.team.train_step", 1),
    "in an update": ("training.loop._reduce", 5),
    "after an update": ("training.loop._apply", 5),
    "in a sum": ("runtime.team.Team.sum_rows", 7),
    "in a command": ("runtime.team.Team._exchange", 9),
    "in a gather": ("runtime.team.Team._gather", 2),
    "before a save": ("runs.session.Session.save", 4),
    "in a save": ("runs.storage.rundir.RunDir.save_checkpoint", 2),
    "after the last update": ("runs.session.Session._write_samples_and_figures", 1),
}
OF_PROCESS_0 = ("before the first update", "before a save", "in a save", "after the last update")


def dying(place: str, call: int):
    """Kills this process at that call of a function."""
    module, _, name = f"ebmtrain.{place}".rpartition(".")
    if module.rpartition(".")[2][0].isupper():
        module, _, holder = module.rpartition(".")
        owner = getattr(__import__(module, fromlist=[holder]), holder)
    else:
        owner = __import__(module, fromlist=[name])
    original, calls = getattr(owner, name), []

    def function(*arguments, **named):
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, name, function)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("unbroken")
    words = [*words_of("pcd"), f"hydra.run.dir={path}/run"]
    assert [e.code for e in Ranks(words, path).ended()] == [0, 0]
    return path / "run"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "rank"),
    [(p, r) for p in POINTS for r in (0, 1) if r == 0 or p not in OF_PROCESS_0],
)
def test_a_killed_process_leaves_a_run_that_a_new_attempt_completes(folder, unbroken, point, rank):
    """As `--max-restarts` does: the others end, and all start again with the same command."""
    words = words_of("pcd")
    ranks = Ranks(words, folder, before=lambda r: dying(*POINTS[point]) if r == rank else None)
    ended = end_as_torchrun(ranks)
    assert ended[rank].code == -signal.SIGKILL
    again = Ranks(words, folder, store=ranks.store).ended()
    assert [(e.code, e.err) for e in again] == [(0, "")] * 2
    assert run_differences(unbroken, folder / "run") == []


KILLED_ONCE = """
import os, signal
from pathlib import Path
import ebmtrain.training.loop as loop
from ebmtrain.cli.main import entry
from ebmtrain.runs.figures import RunFigures
RunFigures.draw_landscape = lambda *_: None
RunFigures.draw_all = lambda *_: []
original, calls = loop._apply, []
def function(*arguments):
    calls.append(None)
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "1":
        Path("again").touch()
    elif len(calls) == 5 and os.environ["RANK"] == "1":
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
loop._apply = function
entry()
"""


@pytest.mark.slow
def test_torchrun_starts_a_killed_process_again(folder, unbroken):
    (folder / "once.py").write_text(KILLED_ONCE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command = [*torchrun, "--max-restarts=1", "once.py", *words_of("pcd")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    assert (folder / "killed").exists()
    assert (folder / "again").exists()
    assert run_differences(unbroken, folder / "run") == []
    assert "resumed at step 3 of 9" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("receivers", [(0,), (1,), (0, 1)], ids=str)
def test_a_signal_to_any_process_saves_the_run(command, folder, unbroken, no_pictures, receivers):
    """And one process completes it."""
    words = words_of("pcd")

    first, second = Ranks(words, folder, before=stopping(5, *receivers)).ended()
    assert (first.code, second.code) == (128 + signal.SIGTERM, 0)
    assert (first.err, second.err) == ("", "")
    told = json.loads((folder / "run/result.json").read_text())
    assert (told["status"], told["signal"]) == ("interrupted", signal.SIGTERM)
    assert 5 <= told["step"] <= 6
    assert command("resume", "run").code == 0
    assert run_differences(unbroken, folder / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_process_that_hangs_is_named_within_the_patience(folder, rank):
    """The others end with one line each, the hanging one is killed; the run is resumable."""
    words = [*words_of("pcd"), "train.batch_size=33", "method.slots=66", "device.patience=4"]

    ranks = Ranks(words, folder, size=3, before=stopping(5, rank, by=signal.SIGSTOP))
    began = time.monotonic()
    others = [child.ended() for r, child in enumerate(ranks.children) if r != rank]
    assert time.monotonic() - began < HANG_S
    os.kill(ranks.children[rank].pid, signal.SIGKILL)
    ranks.children[rank].ended()
    for other in others:
        assert other.code == 1
        assert f"rank {rank} did not answer within 4 s (device.patience)" in other.err
        assert other.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_retry_is_the_same_in_two_processes(configured, folder):
    """supervisor=retry: all processes return to the checkpoint, at the halved rate."""
    words = [*words_of("pcd"), "optimizer.lr=30", "supervisor=retry", "train.steps=12",
             "model.base_std=null"]  # fmt: skip
    codes = [e.code for e in Ranks(words, folder).ended()]
    run = folder / "run"
    config = {**build_config(run)}
    try:
        run_experiment(build(config), folder / "one", {}, quiet=True)
    except Exception:
        assert codes[0] == 3
    one, two = (json.loads((p / "result.json").read_text()) for p in (folder / "one", run))
    assert one["retries"] == two["retries"] != []
    assert run_differences(folder / "one", run) == []


def build_config(run: Path) -> dict:
    import yaml

    return yaml.safe_load((run / "config.yaml").read_text())


def test_variables_of_other_launchers_have_no_effect(monkeypatch):
    from ebmtrain.runtime import processes

    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert processes.read_environment() is None
    assert processes.process_count() == 1
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    try:
        assert processes.read_environment() == Rank(1, 2, 1)
    finally:
        monkeypatch.delenv("TORCHELASTIC_RUN_ID")
        processes.read_environment()
