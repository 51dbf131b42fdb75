"""`ebmtrain.train` trains as the command does, and leaves the process as it was."""

from __future__ import annotations

import html
import signal
from pathlib import Path

import pytest
import torch
from same_state import run_differences

import ebmtrain
from ebmtrain.cli.main import main
from ebmtrain.errors import ConfigError
from ebmtrain.runs.launch import resume
from ebmtrain.runtime import native
from ebmtrain.runtime.signals import TerminationSignal
from ebmtrain.samplers.mala import Mala


def test_it_trains_as_the_command_does(tiny, tmp_path: Path):
    settings = ("device.threads=1", "device.deterministic=true", "device.native=false")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run = ebmtrain.train(*tiny, *settings, f"hydra.run.dir={tmp_path}/one", quiet=True)
        assert (torch.get_num_threads(), native.enabled()) == (2, True)
        assert torch.get_deterministic_debug_mode() == 0
    finally:
        torch.set_num_threads(threads)
    assert main([*tiny, *settings, f"hydra.run.dir={tmp_path}/two"]) == 0
    torch.set_deterministic_debug_mode("default")
    native.set_enabled(True)
    assert run_differences(tmp_path / "one", tmp_path / "two") == []
    assert run.result["status"] == "finished"
    assert run.directory.read_json("run.json")["command"][:2] == ["ebmtrain", tiny[0]]


@pytest.mark.slow
def test_a_notebook_shows_its_numbers_and_its_landscape(tiny, folder: Path):
    run = ebmtrain.train(*tiny, 'hydra.run.dir="a<b>"', quiet=True)
    page = run._repr_html_()
    assert html.escape(repr(run)) in page
    assert "<b>" not in page
    assert f"{run.result['metrics']['nll']:.4f}" in page
    assert page.count("<img ") == 1
    (run.path / "result.json").write_text('{"metrics": 3}')
    (run.path / "plots/landscape_final.png").unlink()
    assert ebmtrain.load(run.path)._repr_html_().startswith("<pre>Run(")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("train.ensemble=2", "one run"),
        ("-m", "unknown flag -m"),
        ("seed=0,1", "has several values"),
    ],
)
def test_several_runs_are_refused(tiny, folder: Path, word, reason):
    with pytest.raises(ConfigError, match=reason):
        ebmtrain.train(*tiny, word)
    assert not list(folder.iterdir())


def test_an_interrupt_saves_the_state(tiny, tmp_path: Path, monkeypatch):
    """As the stop button of a notebook sends it."""
    words = [*tiny, "method=pcd", "sampler=mala", f"hydra.run.dir={tmp_path}/run"]
    step = Mala.step

    def interrupted(*arguments):
        monkeypatch.setattr(Mala, "step", step)
        signal.raise_signal(signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(Mala, "step", interrupted)
    with pytest.raises(TerminationSignal):
        ebmtrain.train(*words, quiet=True)
    assert resume(tmp_path / "run", quiet=True)["status"] == "finished"


@pytest.mark.usefixtures("no_pictures")
def test_scores_of_points_are_their_log_density(tiny, folder: Path):
    """They integrate to one over the plane, to the tolerance of log Z."""
    tolerance = 0.01
    run = ebmtrain.train(*tiny, f"evaluation.tolerance={tolerance}", quiet=True)
    width = 40 / 400
    axis = torch.arange(-20 + width / 2, 20, width, dtype=torch.float64)
    log_p = run.score_samples(torch.cartesian_prod(axis, axis)).double()
    assert float(log_p.exp().sum() * width**2) == pytest.approx(1, abs=tolerance)
    x = run.experiment.dataset.holdout
    assert -float(run.score_samples(x).mean()) == pytest.approx(run.result["metrics"]["nll"], 1e-4)
