"""Files of a run: whole or not at all."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from same_state import load

from ebmtrain.errors import CheckpointError, ConfigError, OutputError, UnsafeError
from ebmtrain.runs.loggers.console import RunConsole
from ebmtrain.runs.storage.atomic_io import lock_directory, write_file
from ebmtrain.runs.storage.rundir import RunDir

# Writing


def test_write_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_file(tmp_path, "a/b/file", b"one")
    write_file(tmp_path, "a/b/file", b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.write_bytes("plots/x", b"x"),
        lambda run: run.log_row({"step": 1, "kl": 0.5}),
        lambda run: run.truncate_metrics(0),
        lambda run: run.save_checkpoint({"step": 1}, 1, 2, due=True, best=True),
        lambda run: RunConsole(run, quiet=True),
        lambda run: lock_directory(run.path, run.identity).__enter__(),
    ],
)
def test_a_run_writes_into_its_own_folder_only(tmp_path, write, replaced):
    path = tmp_path / "run"
    with lock_directory(path) as identity:
        RunDir.create(path, {"seed": 0}, {}, identity)
    run = RunDir.open(path)
    assert run.identity == identity
    path.rename(tmp_path / "moved")
    if replaced:
        path.mkdir()
        (path / "config.yaml").write_text("seed: 0\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="while the run worked in it"):
        write(run)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("call", ["replace", "fsync", "write", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_full_disk_destroys_no_file(tmp_path, monkeypatch, call, number):
    path = tmp_path / "file"
    write_file(tmp_path, "file", b"old")

    def full(*_: object, **__: object):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OutputError, match=f"cannot write .*file: {os.strerror(number)}"):
            write_file(tmp_path, "file", b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupted(_: int):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path, "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_writes_are_synced_in_order(tmp_path, monkeypatch):
    """Content is synced before the rename, the folder after it."""
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (
            events.append("folder" if Path(f"/proc/self/fd/{fd}").is_dir() else "file"),
            fsync(fd),
        ),
    )
    monkeypatch.setattr(
        os, "replace", lambda *a, **of: (events.append("rename"), replace(*a, **of))
    )
    write_file(tmp_path, "file", b"new")
    assert events == ["file", "rename", "folder"]


def test_a_path_below_a_file_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write"):
        write_file(tmp_path, "file/below", b"")


# Small files


def test_a_created_run_is_opened(tmp_path):
    run = RunDir.create(tmp_path / "run", {"seed": 1, "b": {"a": None}}, {"command": ["x"]})
    assert run.config() == {"seed": 1, "b": {"a": None}}
    assert list(run.config()) == ["seed", "b"]
    assert RunDir.open(tmp_path / "run").read_json("run.json") == {"command": ["x"]}
    with pytest.raises(ConfigError, match=r"holds a run already: continue it, 'ebmtrain resume"):
        RunDir.create(tmp_path / "run", {}, {})
    with pytest.raises(ConfigError, match=r"is not a run directory: it has no config.yaml"):
        RunDir.open(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "- 1",
        "3",
        "",
        "a: [",
        "a: \x00",
        "\xff",
    ],
)
def test_an_invalid_config_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"cannot be read|is not a mapping"):
        RunDir.open(tmp_path).config()
    assert not (tmp_path / "executed").exists()


DEEP = "[" * 2000 + "]" * 2000
BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "tag": ("!!python/object/apply:os.system ['touch executed']", "tag"),
    "path": ("a: !!python/object:pathlib.Path {}", "tag"),
    "own tag": ("a: !x 1", "tag"),
    "alias bomb": (BOMB, "alias"),
    "alias to itself": ("a: &a [*a]", "alias"),
    "deep": (f"a: {DEEP}", "nested more than 40"),
    "deep mappings": ("".join(f"{' ' * i}a:\n" for i in range(2000)), "nested|bytes"),
    "large": ("a: " + "x" * 1_000_000, "1,000,003 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_config_is_refused(tmp_path, monkeypatch, name):
    text, reason = HOSTILE[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UnsafeError, match=f"config.yaml is refused: .*({reason})"):
        RunDir.open(tmp_path).config()
    assert not (tmp_path / "executed").exists()


def test_a_pipe_instead_of_a_checkpoint_is_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    os.mkfifo(tmp_path / "checkpoints/last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt is no file"):
        RunDir(tmp_path).load_checkpoint()


def test_json_has_no_nan(tmp_path):
    run = RunDir(tmp_path)
    run.write_json("x.json", {"a": math.nan, "b": [1.0, -math.inf], "c": {"d": math.inf}, "e": 2})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None,
        "b": [1.0, None],
        "c": {"d": None},
        "e": 2,
    }
    assert run.read_json("missing.json") == {}
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ConfigError, match=r"cannot be read"):
        run.read_json("x.json")


def test_arrays_are_written_and_read(tmp_path):
    RunDir(tmp_path).write_arrays("samples/x.npz", x=torch.ones(3, 2), energy=torch.zeros(3))
    with np.load(tmp_path / "samples/x.npz") as file:
        assert file["x"].shape == (3, 2)
        assert file["energy"].tolist() == [0, 0, 0]


# Metrics

ROWS = [
    {"step": 0, "kl": 2.5},
    {"step": 5, "loss": 0.5, "lr": 1e-3},
    {"step": 10, "loss": math.nan, "lr": 1e-3, "kl": math.inf},
    {"step": 15, "loss": 0.25, "lr": 1e-4},
]


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    assert b"\r" not in path.read_bytes()
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return list(reader.fieldnames or []), rows


def run_with_rows(path: Path) -> RunDir:
    run = RunDir(path)
    for row in ROWS:
        run.log_row(row)
    return run


def test_metrics_are_written_as_json_lines_and_as_a_table(tmp_path):
    run = run_with_rows(tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
        ROWS[0],
        ROWS[1],
        {"step": 10, "loss": None, "lr": 1e-3, "kl": None},
        ROWS[3],
    ]
    columns, table = read_table(tmp_path / "metrics.csv")
    assert columns == ["step", "kl", "loss", "lr"]
    assert [row["step"] for row in table] == ["0", "5", "10", "15"]
    assert [row["loss"] for row in table] == ["", "0.5", "nan", "0.25"]
    assert run.metrics_size() == (tmp_path / "metrics.jsonl").stat().st_size


def test_non_finite_values_are_not_missing(tmp_path):
    rows = run_with_rows(tmp_path).rows()
    assert math.isnan(rows[2]["loss"])
    assert "kl" not in rows[1]


def test_metrics_are_truncated_at_the_checkpoint(tmp_path):
    run = RunDir(tmp_path)
    sizes = []
    for row in ROWS:
        run.log_row(row)
        sizes.append(run.metrics_size())
    again = RunDir(tmp_path)
    again.truncate_metrics(sizes[1])
    assert again.rows() == ROWS[:2]
    assert read_table(tmp_path / "metrics.csv")[0] == ["step", "kl", "loss", "lr"]
    for row in ROWS[2:]:
        again.log_row(row)
    (tmp_path / "whole").mkdir()
    whole = run_with_rows(tmp_path / "whole").path / "metrics.csv"
    assert (tmp_path / "metrics.csv").read_text() == whole.read_text()


def test_an_incomplete_line_is_ignored(tmp_path):
    run = run_with_rows(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "lo')
    assert len(run.rows()) == len(ROWS)


def test_metrics_on_a_full_disk(tmp_path, monkeypatch):
    run = run_with_rows(tmp_path)

    def full(*_: object, **__: object):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match=r"cannot write .*metrics\.jsonl: No space left"):
        run.log_row(ROWS[0])


# Checkpoints


def saved(path: Path, steps: list[int], keep: int = 3, best: int | None = None) -> RunDir:
    run = RunDir(path)
    for step in steps:
        run.save_checkpoint({"step": step}, step, keep, due=True, best=step == best)
    return run


def names(run: RunDir) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


@pytest.mark.parametrize(("keep", "kept"), [(1, 2), (2, 2), (3, 3), (10, 5)])
def test_the_newest_are_kept_and_at_least_two(tmp_path, keep, kept):
    run = saved(tmp_path, [0, 5, 10, 15, 20], keep)
    steps = [0, 5, 10, 15, 20][-kept:]
    assert names(run) == ["last.pt", *[f"step_{step:08d}.pt" for step in steps]]
    assert load(run.checkpoints / "last.pt")["step"] == 20


def test_best_is_written_in_addition_to_the_others(tmp_path):
    run = saved(tmp_path, [0, 5, 10, 15], 2, best=5)
    assert load(run.checkpoints / "best.pt")["step"] == 5
    run.save_checkpoint({"step": 17}, 17, 2, due=False, best=True)
    assert load(run.checkpoints / "best.pt")["step"] == 17
    assert names(run) == ["best.pt", "last.pt", "step_00000010.pt", "step_00000015.pt"]


def test_the_newest_intact_checkpoint_is_loaded_and_damaged_ones_named(tmp_path):
    run = saved(tmp_path, [0, 5, 10])
    state, passed = run.load_checkpoint()
    assert (state["step"], passed) == (10, [])
    flip(run.checkpoints / "last.pt")
    state, passed = run.load_checkpoint()
    assert state["step"] == 10
    assert len(passed) == 1
    assert "last.pt is damaged" in passed[0]
    flip(run.checkpoints / "step_00000010.pt")
    state, passed = run.load_checkpoint()
    assert state["step"] == 5
    assert [name in note for name, note in zip(("last", "step_00000010"), passed, strict=True)] == [
        True,
        True,
    ]
    assert passed[1].endswith("step_00000005.pt is used instead")
    (run.checkpoints / "step_00000005.pt").write_bytes(b"")
    flip(run.checkpoints / "step_00000000.pt")
    reason = r"checkpoint: .*last\.pt is damaged.*as are 3 others"
    with pytest.raises(CheckpointError, match=reason):
        run.load_checkpoint()


def test_a_named_checkpoint_has_no_substitute(tmp_path):
    run = saved(tmp_path, [0, 5])
    assert run.load_checkpoint(run.checkpoints / "step_00000000.pt")[0]["step"] == 0
    with pytest.raises(CheckpointError, match=r"cannot be read: No such file"):
        run.load_checkpoint(run.checkpoints / "best.pt")
    with pytest.raises(CheckpointError, match=r"holds none"):
        RunDir(tmp_path / "empty").load_checkpoint()


def test_a_damaged_checkpoint_does_not_displace_an_intact_one(tmp_path):
    """Going on from 10 because 20 is damaged: 20 is not one of the two that are kept."""
    run = saved(tmp_path, [0, 10, 20], keep=2)
    flip(run.checkpoints / "step_00000020.pt")
    run.save_checkpoint({"step": 15}, 15, 2, due=True, best=False)
    good = [
        load(run.checkpoints / name)["step"] for name in names(run) if name != "step_00000020.pt"
    ]
    assert good == [15, 10, 15]


def test_a_full_disk_keeps_the_checkpoints(tmp_path, monkeypatch):
    run = saved(tmp_path, [0, 5])
    before = {path.name: path.read_bytes() for path in run.checkpoints.iterdir()}

    def full(*_: object):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left"):
        run.save_checkpoint({"step": 10}, 10, 3, due=True, best=True)
    assert {path.name: path.read_bytes() for path in run.checkpoints.iterdir()} == before


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_config_is_plain_yaml(tmp_path):
    RunDir(tmp_path).write_config({"lr": 1e-8, "text": "1e-3", "list": [1, None]})
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {
        "lr": 1e-8,
        "text": "1e-3",
        "list": [1, None],
    }
