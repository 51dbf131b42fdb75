"""Small runs: seconds become milliseconds, and nothing else changes."""

from __future__ import annotations

import copy
import functools
import logging
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from ebmtrain.cli.main import main
from ebmtrain.config import presets
from ebmtrain.runs.figures import RunFigures

TINY = (
    "model.width=8", "model.fourier_features=0", "train.steps=20", "train.batch_size=32",
    "train.log_every=5", "plots.every=1000000", "samples.count=50", "samples.chains=50",
    "samples.burn_in=5", "samples.thin=2", "evaluation.resolution=32", "checkpoint.every=10",
    "optimizer.schedule.warmup_steps=0", "device.threads=1", "quality.points=50",
    "quality.shuffles=20", "diagnostics.chains=4", "diagnostics.draws=8", "diagnostics.thin=1",
    "evaluation.tolerance=1",
)  # fmt: skip
TINY_POINTS = ("dataset.n_train=200", "dataset.n_holdout=200")
TINY_BUFFER = ("method.slots=64",)


class Outcome(NamedTuple):
    """What a call of the command left."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Command = Callable[..., Outcome]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of what tests start


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(folder, capsys) -> Command:
    """Runs `ebmtrain` in this process, in an empty working directory."""

    def run(*words: str) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Words that make the default run small."""
    return (*TINY, *TINY_POINTS, *TINY_BUFFER)


@pytest.fixture(scope="session")
def tiny_file() -> tuple[str, ...]:
    """The same for dataset=file, which has no number of points."""
    return (*TINY, *TINY_BUFFER)


@pytest.fixture
def lines(caplog):
    """What training says."""
    logging.getLogger("ebmtrain").propagate = True
    caplog.set_level(logging.INFO, "ebmtrain")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture(autouse=True)
def pictures_do_not_fail(request, monkeypatch):
    """A figure that cannot be drawn is a warning in a run, and an error in the tests."""

    def raise_again(*_):
        raise  # the error that is being handled

    if "failing_pictures" not in request.fixturenames:
        monkeypatch.setattr(RunFigures, "_on_failure", raise_again)


@pytest.fixture
def failing_pictures():
    """Figures that cannot be drawn are a warning, as for the user."""


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing is what takes longest in a small run."""
    monkeypatch.setattr(RunFigures, "draw_landscape", lambda *_: None)
    monkeypatch.setattr(RunFigures, "draw_all", lambda *_: [])
    monkeypatch.setattr("ebmtrain.runs.report.write.figures", lambda *_: [])


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Callable[..., Path]:
    """words -> the directory of a finished run without pictures, trained once: tests copy it."""

    @functools.cache
    def train(*words: str) -> Path:
        path = tmp_path_factory.mktemp("trained") / "run"
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()):
            patch.setattr(RunFigures, "draw_landscape", lambda *_: None)
            patch.setattr(RunFigures, "draw_all", lambda *_: [])
            assert main([*words, f"hydra.run.dir={path}"]) == 0
        return path

    return train


@pytest.fixture
def unrendered(monkeypatch):
    """Figures are made but not rendered, which takes a second each: for tests whose figures are of
    kinds that tests/plots renders."""
    monkeypatch.setattr("ebmtrain.plots.encode.encode_png", lambda *_: b"")


@pytest.fixture(scope="session")
def configured() -> Callable[..., dict[str, Any]]:
    """The plain configuration of these words, on top of the small default run."""

    @functools.cache
    def compose(words: tuple[str, ...]) -> dict[str, Any]:
        chosen = [w for w in words if w.startswith("method=")]
        buffer = [] if chosen and chosen[-1] != "method=pcd" else TINY_BUFFER
        points = [] if set(words) & {"dataset=iris", "dataset=wine"} else TINY_POINTS
        return presets.to_plain(presets.compose_config([*TINY, *points, *buffer, *words]))

    return lambda *words: copy.deepcopy(compose(words))
