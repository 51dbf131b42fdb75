"""Where the rows of a run's metrics go."""

from __future__ import annotations

import csv
import json
import time
from contextlib import suppress
from pathlib import Path

from ebmtrain.runs.loggers.console import LOG, RunConsole, progress_lines
from ebmtrain.runs.loggers.files import FileLogger
from ebmtrain.runs.session import Session
from ebmtrain.runs.storage.rundir import RunDir


class Recorder:
    """A logger of one's own, with nothing but the three methods."""

    def __init__(self):
        self.rows, self.figures, self.closed = [], [], 0

    def log(self, step, row):
        self.rows.append({"step": step, **row})

    def figure(self, name, path):
        assert path.is_file()
        self.figures.append(path.name)

    def close(self):
        self.closed += 1


def test_a_row_is_written_as_a_json_line_and_a_table_row(tmp_path: Path):
    """A new column writes the table again; numbers that are none are null."""
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    logger = FileLogger(RunDir(tmp_path))
    logger.log(1, {"loss": 0.5})
    logger.log(2, {"loss": float("nan"), "kl": 1.0})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 0.5}, {"step": 2, "loss": None, "kl": 1.0},
    ]  # fmt: skip
    with (tmp_path / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]


def test_the_console_counts_updates_from_the_restored_step(tmp_path: Path, monkeypatch):
    now = iter([100.0, 104.0, 105.0, 106.0, 110.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    with RunConsole(RunDir(tmp_path), quiet=True, step=10) as console:
        console.log(50, {"loss": 1.0})
        console.rewind(5)
        console.log(5, {"loss": 1.0})
        console.log(35, {"loss": 1.0})
        console.log(36, {"loss": 1.0})
    lines = [
        line.partition("loss 1")[2] for line in (tmp_path / "run.log").read_text().splitlines()
    ]
    assert lines == ["  10 steps/s", "", "  30 steps/s", "  0.25 steps/s"]


def test_the_bar_shows_no_speed_before_the_first_update(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    with RunConsole(RunDir(tmp_path), n_steps=10) as console:
        console.log(0, {"loss": 1.0})
        assert console.progress is not None
        assert console.progress.tasks[0].fields["numbers"] == "loss 1"


def test_every_logger_gets_every_row_and_figure(command, monkeypatch, folder: Path):
    """A third one, as an experiment tracker will be; it changes nothing of the others."""
    third = Recorder()
    original = Session.__init__

    def init(self, *words, **named):
        original(self, *words, **named)
        self.loggers.append(third)

    monkeypatch.setattr(Session, "__init__", init)
    outcome = command(
        "train.steps=4", "train.log_every=2", "train.batch_size=32", "model.width=8",
        "samples.count=50", "samples.burn_in=5", "quality.points=20", "diagnostics.draws=8",
        "diagnostics.chains=4", "evaluation.resolution=32", "plots.gif=false",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == third.rows
    assert set(third.figures) == {path.name for path in (folder / "run" / "plots").iterdir()}
    assert third.closed == 1


def test_a_long_phase_tells_that_it_is_in_progress(monkeypatch, tmp_path):
    monkeypatch.setattr("ebmtrain.runs.loggers.console._FIRST_LINE_SECONDS", 0.1)
    monkeypatch.setattr("ebmtrain.runs.loggers.console._NEXT_LINE_SECONDS", 0.1)
    with RunConsole(RunDir(tmp_path), quiet=True):
        with progress_lines("short"):
            pass
        with progress_lines("figures"):
            time.sleep(0.6)
        with suppress(KeyError), progress_lines("broken"):
            raise KeyError
        time.sleep(0.2)
    told = (tmp_path / "run.log").read_text().splitlines()
    assert len(told) >= 2
    assert all("figures: " in line and line.endswith(" s so far") for line in told)


def test_outside_of_a_run_progress_goes_to_stderr(capsys, monkeypatch):
    monkeypatch.setattr("ebmtrain.runs.loggers.console._FIRST_LINE_SECONDS", 0.05)
    monkeypatch.setattr(LOG, "handlers", [])
    with progress_lines("quality"):
        time.sleep(0.2)
    captured = capsys.readouterr()
    assert captured.err == "quality: 0 s so far\n"
    assert captured.out == ""
