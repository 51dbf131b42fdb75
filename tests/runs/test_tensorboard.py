"""What TensorBoard reads is what metrics.jsonl holds, also after a kill."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from forked import Child
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ebmtrain.cli.main import main
from ebmtrain.runs.loggers.files import FileLogger
from ebmtrain.runs.loggers.tensorboard import TensorBoardLogger
from ebmtrain.runs.storage.atomic_io import lock_directory
from ebmtrain.runs.storage.rundir import RunDir

WORDS = ("tracker=tensorboard", "plots.every=0", "hydra.run.dir=run")


def read(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard"), {"scalars": 0, "images": 0}).Reload()


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = read(run)
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def rows(run: Path) -> dict[str, list[tuple[int, float]]]:
    """metrics.jsonl as TensorBoard has it: a list for each metric, in float32."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name != "step" and not isinstance(value, list):
                number = math.nan if value is None else float(np.float32(value))
                found.setdefault(name, []).append((row["step"], number))
    return found


def same(a, b) -> bool:
    return repr(a) == repr(b)  # NaN is NaN


@pytest.mark.slow
def test_the_event_file_of_a_killed_and_resumed_run_equals_its_metrics(folder: Path, tiny):
    """The process dies after rows that no checkpoint counts."""

    def dying() -> int:
        save, calls = RunDir.save_checkpoint, []

        def killed(*arguments, **named):
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return save(*arguments, **named)

        RunDir.save_checkpoint = killed
        return main([*tiny, *WORDS])

    assert Child(dying, folder).ended().code == -signal.SIGKILL
    assert max(step for step, _ in scalars(folder / "run")["loss"]) > 10
    assert main(["resume", "run"]) == 0
    assert same(scalars(folder / "run"), rows(folder / "run"))
    sizes = [path.stat().st_size for path in sorted((folder / "run/tensorboard").iterdir())]
    assert (len(sizes), sizes[0]) == (2, 0)


@pytest.mark.slow
def test_figures_are_images_at_their_steps(command, folder: Path, tiny):
    words = [w for w in (*tiny, *WORDS) if not w.startswith("plots.")]
    assert command(*words, "plots.every=10", "plots.gif=false").code == 0
    images = read(folder / "run")
    assert [event.step for event in images.Images("landscape")] == [0, 10, 20]
    (last,) = images.Images("landscape_final")
    assert last.step == 20
    assert last.encoded_image_string == (folder / "run/plots/landscape_final.png").read_bytes()
    assert command("export", "run", "tracker=tensorboard").code == 0
    again = read(folder / "run")
    assert sorted(again.Tags()["images"]) == sorted(images.Tags()["images"])
    assert same(scalars(folder / "run"), rows(folder / "run"))


def logged(tmp_path: Path, steps: list[int]) -> tuple[FileLogger, TensorBoardLogger]:
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    run = RunDir(tmp_path)
    both = FileLogger(run), TensorBoardLogger(run)
    for step in steps:
        for logger in both:
            logger.log(step, {"loss": step / 2, "seconds": float(step)})
    return both


def test_a_run_that_returns_to_its_checkpoint_discards_what_came_after(tmp_path: Path):
    both = logged(tmp_path, [1, 2, 3, 4])
    lines = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    RunDir(tmp_path).truncate_metrics(len(b"".join(lines[:2])))
    for logger in both:
        logger.log(3, {"loss": math.nan, "seconds": 9.0})
    assert same(scalars(tmp_path), rows(tmp_path))
    assert [step for step, _ in scalars(tmp_path)["loss"]] == [1, 2, 3]


def test_a_reader_that_has_seen_earlier_events_discards_them(tmp_path: Path):
    """TensorBoard runs meanwhile: a new session begins with a mark that says so."""
    logged(tmp_path, [1, 2, 3])
    reader = read(tmp_path)
    assert len(reader.Scalars("loss")) == 3
    RunDir(tmp_path).truncate_metrics(0)
    logged(tmp_path, [1])
    reader.Reload()
    assert [event.step for event in reader.Scalars("loss")] == [1]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_tracker_that_fails_costs_one_warning(command, folder: Path, tiny, monkeypatch):
    def fail(*_):
        raise OSError("the tracker's disk is full")

    monkeypatch.setattr(TensorBoardLogger, "_append", fail)
    outcome = command(*tiny, *WORDS)
    assert outcome.code == 0
    warning = "warning: tracker=tensorboard stopped (OSError: the tracker's disk is full)"
    assert outcome.out.count(warning) == outcome.out.count("tracker") - 1 == 1
    assert json.loads((folder / "run/result.json").read_text())["status"] == "finished"


def test_a_missing_package_is_named_before_anything_is_written(command, folder, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    outcome = command(*tiny, *WORDS)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "tracker=tensorboard needs tensorboard" in outcome.err
    assert "pip install 'ebmtrain[tensorboard]'" in outcome.err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("words", [("tracker=tensorbord",), ("tracker=3",)])
def test_an_unknown_tracker_is_refused(command, folder: Path, tiny, words):
    outcome = command(*tiny, *words)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "tensorboard" in outcome.err
    assert list(folder.iterdir()) == []


def test_export_explains_what_it_needs(command, folder: Path):
    logged(folder, [1])
    assert command("export", ".", "tracker=tensorboard").code == 0
    for words, reason in (
        (("export", "."), "no tracker is given"),
        (("export", ".", "tracker=wandb"), "unknown option tracker=wandb; known: tensorboard"),
        (("export", ".", "trackr=tensorboard"), "did you mean tracker?"),
        (("export", "tensorboard", "tracker=tensorboard"), "there are no runs below tensorboard"),
    ):
        outcome = command(*words)
        assert outcome.code == 2
        assert reason in outcome.err
    with lock_directory(folder):
        assert command("export", ".", "tracker=tensorboard").code == 5


def test_a_link_in_place_of_the_events_is_refused(command, folder: Path):
    (folder / "run").mkdir()
    (folder / "elsewhere").mkdir()
    logged(folder / "run", [])
    (folder / "run/tensorboard").symlink_to(folder / "elsewhere")
    assert command("export", "run", "tracker=tensorboard").code == 7
    assert list((folder / "elsewhere").iterdir()) == []
