"""A run changes no file outside of its directory, whatever it finds there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ebmtrain.config.build import build
from ebmtrain.config.experiment import Experiment
from ebmtrain.errors import UnsafeError
from ebmtrain.runs.launch import run_experiment
from ebmtrain.runs.session import Session
from ebmtrain.runs.storage import atomic_io
from ebmtrain.runs.storage.rundir import RunDir

KINDS: dict[str, Callable[[Path, Path], None]] = {
    "link to a file": lambda place, outside: place.symlink_to(outside / "file"),
    "link to a folder": lambda place, outside: place.symlink_to(outside / "folder"),
    "link to nothing": lambda place, outside: place.symlink_to(outside / "new"),
    "link to a pipe": lambda place, outside: place.symlink_to(outside / "pipe"),
    "pipe": lambda place, _: os.mkfifo(place),
}
FILES = (
    ".lock", "config.yaml", "run.json", "run.log", "result.json", "metrics.jsonl", "metrics.csv",
    "evaluation.json", "checkpoints", "plots", "samples", "checkpoints/last.pt",
    "checkpoints/step_00000000.pt", "samples/final.npz", "plots/landscape_00000000.png",
)  # fmt: skip
APPENDED = (".lock", "run.log", "metrics.jsonl")


@pytest.fixture
def outside(folder: Path) -> Path:
    """Files of the user's next to the run."""
    path = folder / "outside"
    (path / "folder").mkdir(parents=True)
    for name in ("file", "folder/last.pt", "folder/step_00000000.pt"):
        (path / name).write_text("mine")
    os.mkfifo(path / "pipe")
    return path


def content(folder: Path) -> dict[str, bytes | None]:
    """All files, by name."""
    paths = (path for path in folder.rglob("*") if not path.is_symlink())
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def plant(run: Path, name: str, kind: str, outside: Path) -> None:
    place = run / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](place, outside)


@pytest.fixture(scope="module")
def parts(configured) -> Experiment:
    return build(configured("train.steps=2", "train.log_every=1"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, configured) -> Path:
    path = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ebmtrain.runs.figures.RunFigures.draw_all", lambda *_: [])
        patch.setattr("ebmtrain.runs.figures.RunFigures.draw_landscape", lambda *_: None)
        run_experiment(build(configured("train.steps=2")), path, {}, quiet=True)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_run_in_a_hostile_folder(parts, folder: Path, outside: Path, kind):
    before = content(outside)
    for name in FILES:
        run = folder / "run"
        plant(run, name, kind, outside)
        found = content(run)
        with pytest.raises(UnsafeError, match=f"{name} is a (link|pipe)"):
            run_experiment(parts, run, {}, quiet=True)
        assert content(outside) == before
        assert content(run) == found  # nothing is written, the lock included
        shutil.rmtree(run)


def test_the_command_refuses_a_hostile_folder(command, folder: Path, outside: Path, tiny):
    before = content(outside)
    plant(folder / "run", "checkpoints", "link to a folder", outside)
    outcome = command(*tiny, "hydra.run.dir=run")
    assert (outcome.code, outcome.err.count("\n")) == (7, 1)
    assert content(outside) == before


@pytest.mark.parametrize("name", APPENDED)
def test_a_new_run_over_a_hard_link(parts, folder: Path, outside: Path, name):
    (folder / "run").mkdir()
    (folder / "run" / name).hardlink_to(outside / "file")
    with pytest.raises(UnsafeError, match=f"{name} is a hard link"):
        run_experiment(parts, folder / "run", {}, quiet=True)
    assert (outside / "file").read_text() == "mine"


@pytest.mark.parametrize("name", [".lock", "run.log"])
def test_resuming_over_a_hard_link(command, finished: Path, folder: Path, outside: Path, name):
    run = shutil.copytree(finished, folder / "run")
    (run / name).unlink()
    (run / name).hardlink_to(outside / "file")
    outcome = command("resume", run, "train.steps=4")
    assert outcome.code == 7
    assert f"{name} is a hard link" in outcome.err
    assert (outside / "file").read_text() == "mine"


def test_files_that_are_replaced_may_have_other_names(
    command, finished: Path, folder: Path, no_pictures
):
    """A copy of hard links, as backups make it: the originals stay as they are."""
    before = content(finished)
    run = shutil.copytree(finished, folder / "run", copy_function=os.link)
    for name in (".lock", "run.log"):
        (run / name).unlink()
    for words in (["evaluate", run], ["sample", run, "count=3"], ["resume", run, "train.steps=4"]):
        outcome = command(*words)
        assert outcome.code == 0, outcome.err
    assert RunDir(run).read_json("result.json")["step"] == 4
    assert content(finished) == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "samples", "result.json"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_swapped_during_the_run(
    configured, folder: Path, outside: Path, monkeypatch, no_pictures, name, kind
):
    evaluate, before = Session.evaluate, content(outside)

    def swap(self: Session, state, last: bool):
        if state.step == 1:
            plant(folder / "run", name, kind, outside)
        return evaluate(self, state, last)

    monkeypatch.setattr(Session, "evaluate", swap)
    words = ("train.steps=2", "train.log_every=1", "checkpoint.every=1")
    with pytest.raises(UnsafeError, match=f"{name} is a (link|pipe)"):
        run_experiment(build(configured(*words)), folder / "run", {}, quiet=True)
    assert content(outside) == before


def test_output_below_the_run_follows_no_link(command, finished: Path, folder: Path, outside: Path):
    run, before = shutil.copytree(finished, folder / "run"), content(outside)
    plant(run, "notes/deep", "link to a folder", outside)
    outcome = command("sample", run, "count=3", f"out={run}/notes/deep/last.npz")
    assert outcome.code == 7
    assert "notes/deep is a link" in outcome.err
    assert content(outside) == before


def test_output_elsewhere_follows_links(command, finished: Path, folder: Path, outside: Path):
    (folder / "points.npz").symlink_to(outside / "file")
    assert command("sample", finished, "count=3", "out=points.npz").code == 0
    assert (outside / "file").read_bytes().startswith(b"PK")


@pytest.mark.parametrize("name", ["summary.csv", "summary.md"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_report_into_a_hostile_folder(
    command, finished: Path, folder: Path, outside: Path, no_pictures, name, kind
):
    before = content(outside)
    shutil.copytree(finished, folder / "runs" / "one")
    plant(folder / "runs", name, kind, outside)
    outcome = command("report", folder / "runs")
    assert outcome.code == 7
    assert f"{name} is a " in outcome.err
    assert content(outside) == before


def test_a_folder_of_runs_may_be_a_link(command, folder: Path, outside: Path, tiny, no_pictures):
    """As users put it who keep their runs on another disk."""
    (folder / "outputs").symlink_to(outside / "folder")
    assert command(*tiny, "train.steps=2", "hydra.run.dir=outputs/run").code == 0
    (folder / "mine").symlink_to(outside / "folder" / "run")
    for words in (["resume", "mine", "train.steps=4"], ["evaluate", "mine"], ["plot", "mine"],
                  ["sample", "mine", "count=3"], ["report", "outputs"]):  # fmt: skip
        outcome = command(*words)
        assert outcome.code == 0, outcome.err


WRITES: dict[str, Callable[[Path, str], object]] = {
    "write_file": lambda folder, name: atomic_io.write_file(folder, name, b"new"),
    "append_to_file": lambda folder, name: atomic_io.append_to_file(folder, name, b"new"),
    "open_log": lambda folder, name: atomic_io.open_log(folder, name).close(),
    "sync_file": atomic_io.sync_file,
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_way_to_write(folder: Path, outside: Path, write, kind):
    before = content(outside)
    plant(folder, "run/inner/file", kind, outside)
    with pytest.raises(UnsafeError, match=r"inner/file is a (link|pipe)"):
        WRITES[write](folder / "run", "inner/file")
    plant(folder, "run/inner", kind, outside)
    with pytest.raises(UnsafeError, match=r"inner is a (link|pipe)"):
        WRITES[write](folder / "run", "inner/file")
    with pytest.raises(UnsafeError, match=r"inner is a (link|pipe)"):
        atomic_io.remove_files(folder / "run", ["inner/last.pt"])
    assert content(outside) == before


def test_a_link_that_is_removed_is_not_followed(folder: Path, outside: Path):
    plant(folder, "run/file", "link to a file", outside)
    atomic_io.remove_files(folder / "run", ["file"])
    assert list((folder / "run").iterdir()) == []
    assert (outside / "file").read_text() == "mine"


def test_a_file_of_another_user(folder: Path, monkeypatch):
    (folder / "file").write_text("theirs")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    for write in ("append_to_file", "open_log"):
        with pytest.raises(UnsafeError, match=r"file belongs to another user"):
            WRITES[write](folder, "file")
    assert (folder / "file").read_text() == "theirs"
