"""A disk that is full, or fails, never costs a good checkpoint: exit code 6, one line, and the run
goes on to the same bits once there is room."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Child
from kills import Reference, left, server
from same_state import load

from ebmtrain.cli.main import main
from ebmtrain.errors import OutputError
from ebmtrain.runs.storage.rundir import RunDir

CALLS = ("open", "write", "fsync", "replace", "unlink", "close")
FAULTS = {
    "full": errno.ENOSPC, "broken": errno.EIO, "interrupted": errno.EINTR, "quota": errno.EDQUOT,
}  # fmt: skip


def save(run: RunDir, step: int) -> None:
    state = {"step": step, "w": torch.full((100,), step)}
    run.save_checkpoint(state, step, 2, due=True, best=True)


def save_error(run: RunDir, step: int) -> str:
    """What saving says; nothing where it succeeds."""
    try:
        save(run, step)
    except OutputError as error:
        return str(error)
    return ""


class Faulty:
    """Of the calls of one name, that of one number fails."""

    def __init__(self, patch: pytest.MonkeyPatch, call: str, number: int, fault: int):
        self.original = getattr(os, call)
        self.number = number
        self.fault = fault
        self.calls = 0
        patch.setattr(os, call, self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        if self.calls == self.number:
            if self.original.__name__ == "close":
                self.original(*arguments)  # as the system does, whatever it says
            raise OSError(self.fault, os.strerror(self.fault))
        return self.original(*arguments, **named)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_a_failing_system_call_destroys_no_checkpoint(tmp_path, call, fault):
    number, fails = 0, True
    while fails:
        number += 1
        run = RunDir(tmp_path / str(number))
        for step in (5, 10, 15):
            save(run, step)
        with pytest.MonkeyPatch.context() as patch:
            faulty = Faulty(patch, call, number, FAULTS[fault])
            told = save_error(run, 20)
            fails = faulty.calls >= number
        assert told.endswith(os.strerror(FAULTS[fault])) == fails
        assert "\n" not in told
        steps = {path.name: load(path)["step"] for path in run.checkpoints.glob("*.pt")}
        assert run.load_checkpoint()[1] == []
        assert steps["last.pt"] >= 15
        assert steps["best.pt"] >= 15
        assert len(set(steps.values())) >= 2  # two whole states at every moment
        assert not list(run.checkpoints.glob(".*"))
    assert number > 1


def test_partial_writes_are_completed(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:1]))
    RunDir(tmp_path).write_bytes("x", bytes(range(256)))
    RunDir(tmp_path).log_row({"step": 1, "kl": 0.5})
    monkeypatch.undo()
    assert (tmp_path / "x").read_bytes() == bytes(range(256))
    assert RunDir(tmp_path).rows() == [{"step": 1, "kl": 0.5}]


# Limits that the system itself sets


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Iterator[Reference]:
    folder = tmp_path_factory.mktemp("disk")
    with server(folder / "errors") as do:
        yield Reference(do, "pcd", folder)


def lines(reference: Reference) -> list[str]:
    return (reference.folder / "errors").read_text().splitlines()


@pytest.mark.slow
def test_a_file_size_limit_below_a_checkpoint(reference: Reference):
    path, before = reference.folder / "limited", len(lines(reference))
    assert reference.do(path, config=reference.config, largest=15_000) == 6
    (line,) = lines(reference)[before:]
    assert line.startswith("ebmtrain: cannot write ")
    assert line.endswith(".pt: File too large")
    assert not [*path.rglob(".*.tmp")]
    assert reference.do(path, config=reference.config) == 0
    assert left(reference.path, path) == []


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """100 KiB: room for some checkpoints of 20."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(place)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(words, check=False).returncode:
        pytest.skip("mounting a small disk takes the rights of root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_a_run_resumes_after_a_full_disk(reference: Reference, small_disk: Path):
    path, before = small_disk / "run", len(lines(reference))
    assert reference.do(path, config=reference.config) == 6
    (line,) = lines(reference)[before:]
    assert line.startswith("ebmtrain: cannot write ")
    assert line.endswith("No space left on device")
    good = 0
    for checkpoint in path.rglob("*.pt"):
        good += load(checkpoint)["step"] in range(10)
    assert good >= 2
    words = ["mount", "-o", "remount,size=10m", str(small_disk)]
    subprocess.run(words, check=True)
    assert reference.do(path, config=reference.config) == 0
    assert left(reference.path, path) == []


def test_a_disk_full_before_the_first_checkpoint(reference: Reference, small_disk: Path):
    with suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    before = len(lines(reference))
    assert reference.do(small_disk / "run", config=reference.config) == 6
    assert len(lines(reference)) == before + 1


@pytest.mark.parametrize("size", [300, 1500])  # below the first preset, and between them
def test_a_sweep_whose_presets_cannot_be_written(folder: Path, tiny, size):
    def work() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return main(["-m", *tiny, "seed=0,1", "hydra.sweep.dir=sweep"])

    ended = Child(work, folder.parent).ended()
    assert ended.code == 6
    assert ended.err.startswith("ebmtrain: cannot write ")
    assert ended.err.endswith(".yaml: File too large; choose another TMPDIR\n")
    assert ended.err.count("\n") == 1
    assert not (folder / "sweep").exists()


def test_temporary_files_of_a_killed_process_are_removed(reference: Reference):
    path = reference.folder / "remains"
    number = next(
        i for i, n in enumerate(reference.points, 1)
        if n == "within write checkpoints/last.pt (new)"
    )  # fmt: skip
    assert reference.do(path, config=reference.config, fatal=number) == -9
    assert len([*path.rglob(".*.tmp")]) == 1
    others = path / "plots/.mine.tmp"
    others.parent.mkdir(exist_ok=True)
    others.touch()
    alive = path / f"plots/.x.png.{os.getpid()}-0000.tmp"  # of a process that lives
    alive.touch()
    assert reference.do(path, config=reference.config) == 0
    assert sorted(path.rglob(".*.tmp")) == sorted([others, alive])
    others.unlink()
    alive.unlink()
    assert left(reference.path, path) == []
