"""`model.init=RUN`: a run that starts from the weights of another one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import ebmtrain

pytestmark = pytest.mark.usefixtures("no_pictures")


def energies(run: str, x: torch.Tensor) -> torch.Tensor:
    return ebmtrain.load(run).energy(x)


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 2)) * [3.0, 40.0] + [5.0, -200.0]


@pytest.fixture
def old(command, rows, tiny_file) -> tuple[str, ...]:
    """Trains the run `old` on part of the rows; returns the words of a new one on all of them."""
    np.save("some.npy", rows[:40])
    np.save("all.npy", rows)
    small = tuple(w for w in tiny_file if not w.startswith("model."))
    words = (*small, "dataset=file", "model.width=8", "model.fourier_features=0")
    assert command(*words, "dataset.path=some.npy", "hydra.run.dir=old").code == 0
    return (*small, "dataset=file", "dataset.path=all.npy")


def test_before_the_first_update_energies_are_those_of_the_run(command, rows, old):
    """To the bit, at points of either data set, in the data's units, of which the new data have
    others; also when the run is opened again and the old one is gone. The model is that of the
    run, unless it is given."""
    x = torch.from_numpy(rows)
    wanted = energies("old", x)
    outcome = command(*old, "train.steps=0", "model.init=old", "hydra.run.dir=new")
    assert outcome.code == 0, outcome.err
    assert yaml.safe_load(Path("new/config.yaml").read_text())["model"]["width"] == 8
    shutil.move("old", "moved")
    assert torch.equal(energies("new", x), wanted)
    assert command("evaluate", "new").code == 0
    given = ("model.width=8", "model.fourier_features=0")
    outcome = command(*old, *given, "train.steps=0", "model.init=moved", "hydra.run.dir=same")
    assert outcome.code == 0, outcome.err
    assert torch.equal(energies("same", x), wanted)


@pytest.mark.slow
def test_a_run_with_initial_weights_trains_and_resumes_without_the_other_run(command, rows, old):
    """It resumes to the bit, in the units of the other run, which may be gone."""
    x = torch.from_numpy(rows)
    start = (*old, "model.init=old", "optimizer.schedule.shape=constant")
    assert command(*start, "train.steps=12", "hydra.run.dir=whole").code == 0
    assert command(*start, "train.steps=6", "hydra.run.dir=part").code == 0
    assert not torch.equal(energies("whole", x), energies("old", x))
    shutil.rmtree("old")
    assert command("resume", "part", "train.steps=12").code == 0
    assert torch.equal(energies("part", x), energies("whole", x))


@pytest.mark.slow
def test_a_sweep_and_an_ensemble_take_initial_weights(command, rows, old):
    x = torch.from_numpy(rows)
    wanted = energies("old", x)
    words = (*old, "train.steps=0", "model.init=old")
    assert command("-m", *words, "seed=0,1", "hydra.sweep.dir=sweep").code == 0
    assert command(*words, "train.ensemble=2", "hydra.run.dir=ensemble").code == 0
    for folder in ("sweep", "ensemble"):
        for seed in (0, 1):
            assert torch.equal(energies(f"{folder}/{seed}_seed={seed}", x), wanted)


def test_weights_that_do_not_fit_are_refused(command, old, rows):
    """By `check` too, and nothing is written."""
    np.save("three.npy", np.hstack([rows, rows[:, :1]]))
    before = sorted(Path().iterdir())
    for words, saying in [
        (["model.init=old", "model.width=16"], "leave out model=..., which takes the model"),
        (["model.init=old", "dataset.path=three.npy"], "its points have shape (2,)"),
        (["model.init=none"], "none is not a run directory"),
        (["model.init=3"], "model.init must be a valid string, got 3"),
        (["model.init=old", "model=double_well", "train.steps=0"], "a landscape has none"),
    ]:
        small = [w for w in old if w.partition("=")[0] not in {x.partition("=")[0] for x in words}]
        for verb in (["check"], []):
            outcome = command(*verb, *small, *words)
            assert (outcome.code, saying in outcome.err) == (2, True), outcome.err
    assert sorted(Path().iterdir()) == before
    config = yaml.safe_load(Path("old/config.yaml").read_text())
    config["model"]["_target_"] = "subprocess.Popen"
    Path("old/config.yaml").write_text(yaml.safe_dump(config))
    outcome = command(*old, "train.steps=0", "model.init=old")
    assert "the model of model.init=old is not one of ebmtrain's" in outcome.err


def test_moved_data(command, folder: Path, old):
    """Every verb that needs them, given their new place; other data are refused, with a remedy
    that works."""
    (folder / "elsewhere").mkdir()
    Path("some.npy").rename("elsewhere/data.npy")
    for verb in ("evaluate", "plot"):
        assert "if the data have moved, add dataset.path=PLACE" in command(verb, "old").err
        outcome = command(verb, "old", "dataset.path=elsewhere/data.npy")
        assert outcome.code == 0, outcome.err
    assert command("sample", "old", "start=data", "dataset.path=elsewhere/data.npy").code == 0
    np.save("mask.npy", np.array([1, 0]))
    missing = ["--inpaint", "mask.npy", "burn_in=1"]
    assert command("sample", "old", *missing, "dataset.path=elsewhere/data.npy").code == 0
    for verb in (["evaluate", "old"], ["plot", "old"], ["resume", "old", "train.steps=30"]):
        outcome = command(*verb, "dataset.path=all.npy")
        assert outcome.code == 2
        assert "begin a new run with these weights, on these data: model.init=RUN" in outcome.err
    outcome = command("resume", "old", "train.steps=24", "dataset.path=elsewhere/data.npy")
    assert outcome.code == 0, outcome.err
    config = yaml.safe_load(Path("old/config.yaml").read_text())
    assert config["dataset"]["path"] == str(folder / "elsewhere/data.npy")
    assert command(*old, "model.init=old", "train.steps=1", "hydra.run.dir=more").code == 0
