"""An acknowledged checkpoint survives the loss of power, by our protocol and not by four others."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from power import Files, Recorder, crashes, recorded

from ebmtrain.errors import EbmtrainError
from ebmtrain.runs.storage import atomic_io as durable
from ebmtrain.runs.storage.checkpoint_format import encode
from ebmtrain.runs.storage.rundir import RunDir

STEPS, BEST = tuple(range(0, 40, 5)), (0, 5, 15, 30)
Save = Callable[[RunDir, dict[str, Any], int], None]


def ours(run: RunDir, state: dict[str, Any], step: int) -> None:
    run.save_checkpoint(state, step, 2, due=True, best=step in BEST)


def prune_first(run: RunDir, state: dict[str, Any], step: int) -> None:
    """The old one goes before the folder says that the new one is there."""
    path = run.checkpoints / f"step_{step:08d}.pt"
    durable._make_folder(path.parent)
    write_synced(path.with_suffix(".tmp"), os.O_EXCL, encode(state))
    os.replace(path.with_suffix(".tmp"), path)  # noqa: PTH105
    for old in run.checkpoints.glob("step_*.pt"):
        if old != path:
            os.unlink(old)  # noqa: PTH108
    durable.sync_folder(path.parent)


def write_synced(path: Path, flags: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    os.write(descriptor, data)
    os.fsync(descriptor)
    os.close(descriptor)


def in_place(folder: Path, name: str, data: bytes, identity: object = None) -> None:
    path = folder / name
    durable._make_folder(path.parent)
    write_synced(path, os.O_TRUNC, data)
    durable.sync_folder(path.parent)


def session(root: Path, save: Save) -> Recorder:
    """What a run writes: Hydra makes its folder, a row before each save."""
    with recorded(root) as recorder:
        path = root / "outputs" / "run"
        path.mkdir(parents=True)
        with durable.lock_directory(path):
            run = RunDir.create(path, {"seed": 0}, {})
            for step in STEPS:
                run.log_row({"step": step, "loss": step / 7})
                state = {"step": step, "w": torch.full((8,), step), "rows": run.metrics_size()}
                save(run, state, step)
                recorder.acknowledge(step)
    return recorder


def is_lost(acknowledged: int, files: Files, folder: Path, rows: bytes, best: bool) -> bool:
    """Whether the newest state that was acknowledged, or its rows, or the best, is not there."""
    for name, data in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    run = RunDir(folder / "outputs/run")
    try:
        state, _ = run.load_checkpoint()
        if best:
            step = run.load_checkpoint(run.checkpoints / "best.pt")[0]["step"]
            if step < max(s for s in BEST if s <= acknowledged):
                return True
    except EbmtrainError:
        return True
    found = files.get("outputs/run/metrics.jsonl", b"")[: state["rows"]]
    whole = torch.equal(state["w"], torch.full((8,), state["step"]))
    config = "outputs/run/config.yaml" in files
    return not (
        state["step"] >= acknowledged and whole and config and found == rows[: state["rows"]]
    )


def count(
    recorder: Recorder,
    operations: list[tuple[Any, ...]] | None = None,
    *,
    best: bool = True,
    enough: int | None = None,
) -> tuple[int, int]:
    """Different states that may be found, and those of them in which something was lost.

    Args:
        operations: in place of those that were recorded.
        best: whether the writer keeps a best.pt.
        enough: losses after which to look no further.
    """
    operations = recorder.done if operations is None else operations
    rows = (recorder.root / "outputs/run/metrics.jsonl").read_bytes()
    seen: dict[Any, bool] = {}
    losses = 0
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    ignored = (".tmp", ".csv", "run.json")
    for acknowledged, files in crashes(operations, str(recorder.root), ignored):
        key = (acknowledged, tuple(sorted(files.items())))
        if acknowledged is None or key in seen:
            continue
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            seen[key] = is_lost(acknowledged, files, Path(folder), rows, best)
        losses += seen[key]
        if losses == enough:
            break
    return len(seen), losses


def without(recorder: Recorder, what: str) -> list[tuple[Any, ...]]:
    kept = [operation for operation in recorder.done if operation[0] != what]
    assert len(kept) < len(recorder.done)
    return kept


BROKEN: dict[str, Callable[[Path], tuple[Recorder, list[tuple[Any, ...]], bool]]] = {}


def broken_protocol(function: Callable[[Path], tuple[Recorder, list[tuple[Any, ...]], bool]]):
    BROKEN[function.__name__.replace("_", " ")] = function
    return function


@broken_protocol
def files_not_synced(root: Path):
    recorder = session(root, ours)
    return recorder, without(recorder, "sync"), True


@broken_protocol
def folders_not_synced(root: Path):
    recorder = session(root, ours)
    return recorder, without(recorder, "sync folder"), True


@broken_protocol
def written_in_place(root: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "write_file", in_place)
        recorder = session(root, ours)
    return recorder, recorder.done, True


@broken_protocol
def pruned_too_early(root: Path):
    recorder = session(root, prune_first)
    return recorder, recorder.done, False


def test_no_acknowledged_checkpoint_is_lost(tmp_path):
    states, losses = count(session(tmp_path, ours))
    assert states >= 40
    assert losses == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_broken_protocols_lose_checkpoints(tmp_path, name):
    recorder, operations, best = BROKEN[name](tmp_path)
    assert count(recorder, operations, best=best, enough=1)[1] > 0


def test_unsynced_data_may_be_lost_in_the_disk_model(tmp_path):
    """One file, written and renamed: what may be found after each operation."""
    with recorded(tmp_path) as recorder:
        durable.write_file(tmp_path, "file", b"old!")
        durable.write_file(tmp_path, "file", b"new!")
    found = [files.get("file") for _, files in crashes(recorder.done, str(tmp_path))]
    assert {None, b"old!", b"new!"} == set(found)  # never half of one
    unsynced = without(recorder, "sync")
    found = [files.get("file") for _, files in crashes(unsynced, str(tmp_path))]
    assert {None, b"", b"ol", b"ne", bytes(4)} <= set(found)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["outputs", "outputs/run", "outputs/run/checkpoints"])
def test_unsynced_folder_entries_may_be_lost_in_the_disk_model(tmp_path, folder):
    """A synced file in a folder whose own name is lost is lost with it."""
    recorder = session(tmp_path, ours)
    above = str((tmp_path / folder).parent)
    kept = [operation for operation in recorder.done if operation != ("sync folder", above)]
    assert len(kept) < len(recorder.done)
    assert count(recorder, kept, enough=1)[1] > 0
