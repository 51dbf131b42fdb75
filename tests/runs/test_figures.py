"""What a run of images leaves in its folder of pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from cycler import cycler
from matplotlib import rc_context
from PIL import Image
from processes import HANG_S
from torch import Tensor, nn

import ebmtrain
from ebmtrain.runs.evaluate import evaluation_input
from ebmtrain.runs.figures import RunFigures, _evenly_spaced, _geometric_steps
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.samplers.draw import trajectory
from ebmtrain.samplers.langevin import Langevin

SMALL = (
    "model=conv", "model.widths=[4,4]", "train.steps=3", "train.batch_size=16",
    "evaluation.resolution=8", "samples.count=20", "samples.chains=10", "samples.burn_in=6",
    "samples.thin=1", "quality.points=10", "quality.shuffles=5", "diagnostics.chains=4",
    "diagnostics.draws=8", "diagnostics.thin=1", "method.slots=32", "device.threads=1",
    "hydra.run.dir=run",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("data", ["digits", "file"])
def test_image_samples_are_plotted_as_images(command, folder, data):
    """Of a file too, where the model is one of images; and `plot` makes them again."""
    np.save("x.npy", np.random.default_rng(0).uniform(size=(40, 3, 8, 9)))
    words = ["dataset=digits"] if data == "digits" else ["dataset=file", "dataset.path=x.npy"]
    outcome = command(*SMALL, *words)
    assert outcome.code == 0, outcome.err
    plots = folder / "run/plots"
    for name in ("samples_final.png", "chain_final.png", "chain.gif"):
        assert (plots / name).stat().st_size > 1000
    assert not list(plots.glob("classes*"))
    assert not list(plots.glob("landscape*"))
    if data == "file":
        return
    (plots / "samples_final.png").unlink()
    assert command("plot", "run").code == 0
    assert (plots / "samples_final.png").exists()


class Levels(nn.Module):
    """p(x | y): every pixel of class y is N(y / 10, 0.2^2), and p(y | x) follows."""

    classes = 10

    def joint(self, x: Tensor) -> Tensor:
        levels = torch.arange(10) / 10
        return (x.flatten(1)[:, None] - levels[:, None]).square().sum(2) / (2 * 0.2**2)

    def forward(self, x: Tensor) -> Tensor:
        return -torch.logsumexp(-self.joint(x), 1)


@pytest.mark.slow
def test_each_class_has_its_own_samples(command, folder, monkeypatch):
    """A row's mean pixel is within 4 standard errors of the level of its class, 0.03, where those
    of two classes are 0.1 apart; and the training images of a row are those of the class."""
    outcome = command(*SMALL, "dataset=digits", "method=jem", "model.classes=10")
    assert outcome.code == 0, outcome.err
    assert (folder / "run/plots/classes_final.png").stat().st_size > 1000
    run = ebmtrain.load("run")
    experiment = replace(run.experiment, samples=replace(run.experiment.samples, burn_in=150))
    shown = []
    monkeypatch.setattr("ebmtrain.plots.images.class_panels", lambda *given: shown.extend(given))
    monkeypatch.setattr(RunFigures, "_save", lambda *_: None)
    figures = RunFigures(experiment, RunDir(Path("run")))
    figures.draw_classes(evaluation_input(experiment, Levels(), {}), "title", "final")
    data, samples, names = shown[:3]
    assert names == tuple("0123456789")
    u = torch.stack([experiment.standardization.to_standard(x) for x in samples])
    error = 0.2 / u[0].numel() ** 0.5
    assert ((u.flatten(1).mean(1) - torch.arange(10) / 10).abs() < 4 * error).all()
    assert experiment.dataset is not None
    y = experiment.dataset.labels.train  # type: ignore[attr-defined]
    for label, found in enumerate(data):
        assert torch.equal(found, experiment.dataset.train[y == label])


def test_chain_snapshots_are_at_the_given_steps():
    """Gradient descent on ||x||^2 / 2 shrinks by 0.9 a step."""

    def energy(x):
        return x.square().sum((1, 2)) / 2

    start = torch.ones(2, 3, 3)
    generator = torch.Generator().manual_seed(0)
    sampler = Langevin(step_size=0.1, temperature=0.0)
    seen = trajectory(sampler, energy, start, [0, 1, 2, 25], generator)
    assert seen.shape == (4, 2, 3, 3)
    expected = torch.tensor([1.0, 0.9, 0.81, 0.9**25])
    torch.testing.assert_close(seen[:, 0, 0, 0], expected)


@pytest.mark.parametrize("last", [1, 2, 7, 50, 200, 100_000])
def test_snapshot_steps_are_geometric_and_end_at_the_last(last):
    steps = _geometric_steps(last, 40)
    assert (steps[0], steps[1], steps[-1]) == (0, 1, last)
    assert len(steps) <= 41
    few = _evenly_spaced(steps, 12)
    assert few == sorted(set(few))
    assert (few[0], few[-1]) == (0, last)
    assert len(few) <= 12


HOSTILE_SETTINGS: Any = {
    "text.usetex": True, "font.size": 30, "font.family": "cursive", "axes.facecolor": "red",
    "axes.unicode_minus": False, "lines.linewidth": 9, "savefig.dpi": 7, "axes.grid": True,
    "image.cmap": "hot", "text.color": "red", "axes.prop_cycle": cycler(color=["red"]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plane", "images"])
def test_figures_do_not_follow_the_users_settings(command, tiny, kind):
    """The same bytes in a process whose matplotlib has other settings."""
    own = [*tiny, "train.steps=10", "plots.every=10"] if kind == "plane" else SMALL
    data = "five_gaussians" if kind == "plane" else "digits"
    assert command(*own, f"dataset={data}", "hydra.run.dir=run").code == 0
    drawn = {path: path.read_bytes() for path in Path("run/plots").glob("*[a-z].png")}
    with rc_context(HOSTILE_SETTINGS):
        assert command("plot", "run").code == 0
        assert command("report", ".").code == 0
    for path, content in drawn.items():
        assert path.read_bytes() == content, path
    curves = Path("curves.png").read_bytes()
    assert command("report", ".").code == 0
    assert Path("curves.png").read_bytes() == curves


@pytest.mark.slow
def test_a_figure_that_cannot_be_drawn_is_one_warning(folder: Path, tiny):
    """Here matplotlib cannot be imported: the working directory has a matplotlibrc that is not
    UTF-8. The run ends as any other, and `plot`, which has nothing else to do, with code 1."""
    Path("matplotlibrc").write_bytes(b"text.color: \xff\n")
    start = [sys.executable, "-m", "ebmtrain"]
    words = [*tiny, "plots.every=10", "hydra.run.dir=run"]
    done = subprocess.run([*start, *words], capture_output=True, text=True, timeout=HANG_S)
    assert (done.returncode, done.stderr) == (0, "")
    warnings = [line for line in done.stdout.splitlines() if "could not be drawn" in line]
    assert len(warnings) == 1
    assert "plots/landscape_00000000.png could not be drawn: UnicodeDecodeError" in warnings[0]
    told = json.loads(Path("run/result.json").read_text())
    assert told["status"] == "finished"
    assert [w for w in told["warnings"] if "could not be drawn" in w]
    assert Path("run/samples/final.npz").exists()
    done = subprocess.run([*start, "plot", "run"], capture_output=True, text=True, timeout=HANG_S)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("could not be drawn") == 1


@pytest.mark.slow
def test_an_unknown_backend_in_the_environment_changes_nothing(folder: Path, tiny, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    words = [*tiny, "train.steps=2", "hydra.run.dir=run"]
    start = [sys.executable, "-m", "ebmtrain"]
    done = subprocess.run([*start, *words], capture_output=True, text=True, timeout=HANG_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("run/plots/chains.png").exists()


@pytest.mark.slow
def test_figures_in_other_formats(command, tiny):
    """In training and by `plot`, next to PNG files of the resolution that is asked for. A run of an
    earlier version, without these options, has them too."""
    small = [*tiny, "train.steps=2", "plots.gif=false", "hydra.run.dir=run"]
    assert command(*small, "plots.format=pdf").code == 0
    plots, width = Path("run/plots"), figure_width("run/plots/curves.png")
    named = {path.stem for path in plots.glob("*.png")}
    assert {path.stem for path in plots.glob("*.pdf")} == named
    assert (plots / "curves.pdf").read_bytes().startswith(b"%PDF-")
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    del config["plots"]["format"], config["plots"]["dpi"]
    Path("run/config.yaml").write_text(yaml.safe_dump(config))
    assert command("plot", "run", "plots.format=svg", "plots.dpi=55").code == 0
    assert figure_width("run/plots/curves.png") == width // 2
    assert (plots / "curves.svg").read_bytes().startswith(b"<?xml")
    assert "plots.format must be" in command("plot", "run", "plots.format=gif").err


def figure_width(file: str) -> int:
    with Image.open(file) as picture:
        return picture.width


@pytest.mark.slow
def test_a_run_without_figures(command, tiny):
    outcome = command(*tiny, "plots.every=0", "hydra.run.dir=run")
    assert outcome.code == 0
    assert not Path("run/plots").exists()
    assert "picture" not in outcome.out
    assert command("report", ".").code == 0
    assert command("plot", "run").code == 0
    assert Path("run/plots/chains.png").exists()
