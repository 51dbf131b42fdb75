"""A run on sequences of different lengths, from its file to its samples."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from same_state import run_differences

import ebmtrain
from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.errors import DivergedError
from ebmtrain.masks import finite_mask, lengths
from ebmtrain.runs.loading import load
from ebmtrain.runs.sampling import uniform_noise
from ebmtrain.training.compiled.verify import _allclose
from ebmtrain.training.divergence import check_divergence
from ebmtrain.training.state import initial_state

SMALL = (
    "model.width=8", "sampler=langevin", "train.steps=6", "train.batch_size=16",
    "train.log_every=2", "checkpoint.every=2", "checkpoint.keep=9", "samples.count=40",
    "samples.chains=40", "samples.burn_in=3", "samples.thin=1", "evaluation.every=4",
    "optimizer.schedule.warmup_steps=0", "device.threads=1", "quality.points=10",
    "quality.shuffles=20",
)  # fmt: skip
FILE = ("dataset=file", "dataset.path=waves.npz")
KINDS = {
    "lstm": ("model=lstm", "method=pcd", "method.slots=32", "method.reinit=0.2"),
    "transformer": ("model=transformer", "method=cd", "method.start=noise"),
    "conv1d": ("model=conv1d", "model.depth=2", "method=dsm"),
}


def waves(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sine waves, 12 to 32 steps of each, and zeros after them."""
    g = np.random.default_rng(seed)
    t, steps = np.arange(32.0), g.integers(12, 33, n)
    steps[0] = 32
    f, phase = g.uniform(1.5, 2.5, (n, 1)), g.uniform(0, 2 * np.pi, (n, 1))
    x = np.sin(2 * np.pi * f * t / 32 + phase) + 0.1 * g.normal(size=(n, 32))
    return np.where(t < steps[:, None], x, 0.0)[..., None], steps


def write_waves() -> tuple[np.ndarray, np.ndarray]:
    x, steps = waves()
    np.savez("waves.npz", x=x, lengths=steps)
    return x, steps


def cut_back(source: Path, copy: Path, step: int) -> Path:
    """A copy of a run as it was when the process died after this save."""
    shutil.copytree(source, copy)
    kept = copy / f"checkpoints/step_{step:08d}.pt"
    for path in (copy / "checkpoints").glob("step_*.pt"):
        if path.name > kept.name:
            path.unlink()
    shutil.copyfile(kept, copy / "checkpoints/last.pt")
    (copy / "result.json").unlink()
    shutil.rmtree(copy / "samples")
    return copy


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("which", KINDS)
def test_a_run_is_trained_resumed_sampled_and_scored(command, which):
    x, steps = write_waves()
    outcome = command(*FILE, *KINDS[which], *SMALL, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert "no quadrature, AIS or R-hat" in outcome.out
    metrics = json.loads(Path("run/result.json").read_text())["metrics"]
    assert {"mmd2", "energy_distance", "sliced_wasserstein_floor"} <= metrics.keys()

    cut_back(Path("run"), Path("copy"), 4)
    assert command("resume", "copy").code == 0
    assert run_differences(Path("run"), Path("copy")) == []

    final = np.load("run/samples/final.npz")
    drawn = torch.from_numpy(final["x"])
    assert drawn.shape == (40, 32, 1)
    assert lengths(drawn).tolist() == final["lengths"].tolist()
    assert bool(finite_mask(drawn).all())
    assert len(set(final["lengths"].tolist())) > 5
    assert set(final["lengths"].tolist()) <= set(steps.tolist())
    assert np.isfinite(final["energy"]).all()

    assert command("sample", "run", "count=20", "start=noise", "out=s.npz").code == 0
    assert set(np.load("s.npz")["lengths"].tolist()) <= set(steps.tolist())

    outcome = command("score", "run", "--data", "waves.npz", "--out", "e.npy")
    assert outcome.code == 0
    assert "log Z" not in outcome.out
    scores = np.load("e.npy")
    assert scores.shape == (60,)
    short = np.argsort(steps)[:7]  # shorter than the longest that the run knows
    np.savez("short.npz", x=x[short, : steps[short].max()], lengths=steps[short])
    assert command("score", "run", "--data", "short.npz", "--out", "f.npy").code == 0
    np.testing.assert_allclose(np.load("f.npy"), scores[short], rtol=1e-5, atol=1e-5)
    # The samples can be read again, and have the energies that were written beside them.
    assert command("score", "run", "--data", "run/samples/final.npz", "array=x",
                   "--out", "g.npy").code == 0  # fmt: skip
    np.testing.assert_allclose(np.load("g.npy"), final["energy"], rtol=1e-4, atol=1e-4)


@pytest.fixture
def short_run(command, monkeypatch) -> ebmtrain.runs.trained_run.Run:
    write_waves()
    with monkeypatch.context() as patch:
        patch.setattr("ebmtrain.runs.figures.RunFigures.draw_all", lambda *_: [])
        assert (
            command(*FILE, *KINDS["lstm"], *SMALL, "train.steps=1", "hydra.run.dir=run").code == 0
        )
    return load("run")


@pytest.mark.slow
def test_noise_lengths_have_the_distribution_of_the_data(short_run):
    """Within 4.5 standard errors of each share."""
    found = lengths(uniform_noise(short_run.experiment, 20_000, torch.Generator().manual_seed(0)))
    counts = short_run.experiment.data_spec.lengths.double()
    shares = counts / counts.sum()
    error = (shares * (1 - shares) / 20_000).sqrt()
    off = (found.bincount(minlength=33)[1:] / 20_000 - shares).abs()
    assert bool((off <= 4.5 * error).all())


@pytest.mark.slow
def test_figures_and_ood_detection_of_a_run(short_run, command):
    assert command("plot", "run").code == 0
    assert Path("run/plots/samples_final.png").stat().st_size > 10_000
    assert command("evaluate", "run", "evaluation=sine_waves").code == 0
    metrics = json.loads(Path("run/evaluation.json").read_text())["metrics"]
    assert {"p_frequency", "residual", "mmd2", "chain_age_mean"} <= metrics.keys()
    assert command("evaluate", "run", "evaluation=ais", "ood=waves.npz").code == 0
    metrics = json.loads(Path("run/evaluation.json").read_text())["metrics"]
    assert 0 <= metrics["ood_auroc"] <= 1
    assert "nll" not in metrics
    assert metrics["chain_age_max"] >= metrics["chain_age_mean"] > 0  # by `LeftOut`
    assert bool(short_run.energy(short_run.read("waves.npz")).isfinite().all())
    final = dict(np.load("run/samples/final.npz"))
    final["x"][0, 2] = np.nan
    np.savez("run/samples/final.npz", **final)
    outcome = command("plot", "run")
    assert outcome.code == 2
    assert "does not hold points of this model" in outcome.err


@pytest.mark.slow
@pytest.mark.usefixtures("short_run")
def test_unsupported_verbs_are_refused_in_one_line(command):
    x, _ = waves()
    np.save("longer.npy", np.concatenate([x, x], 1))
    np.save("hole.npy", np.where(np.arange(32)[:, None] == 3, np.nan, x))
    np.save("mask.npy", np.arange(32) < 9)
    for words, message in {
        ("sample", "run", "--inpaint", "mask.npy"): "inpainting fills in points of one shape",
        ("sample", "run", "--denoise", "waves.npz", "noise=1"): "denoising draws points of one",
        ("score", "run", "--data", "longer.npy", "--out", "e.npy"): "holds points of shape (64, 1)",
        ("score", "run", "--data", "hole.npy", "--out", "e.npy"): "nan in row 1, column 4, 1",
        ("model=composition", "model.runs=[run]", "train.steps=0"): "no common space",
        ("verify", *FILE, "model=lstm", *SMALL): "verify tests points of one shape",
        ("resume", "run", "train.steps=9", "method=sm"): "method ScoreMatching takes points",
    }.items():
        outcome = command(*words)
        assert outcome.code == 2, words
        assert message in outcome.err
        assert outcome.err.count("\n") == 1


def test_padding_does_not_make_equal_updates_differ():
    """Where a compiled update is tried against the ordinary one, rounding is that of numbers."""
    chains = torch.tensor([[1000.0, 2.0], [3.0, torch.nan]])
    assert _allclose(chains, chains + 0.5)  # a thousandth of the largest
    assert not _allclose(chains, chains + 5.0)
    assert not _allclose(chains, chains.nan_to_num(0.0))


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_the_divergence_message_names_the_range_of_padded_data():
    x, steps = waves()
    np.savez("waves.npz", x=300 * x, lengths=steps)
    words = [*FILE, "dataset.standardize=false", *KINDS["conv1d"], *SMALL]
    experiment = build(presets.to_plain(presets.compose_config(words)))
    assert experiment.train_spec is not None
    state = initial_state(experiment.train_spec, experiment.energy, experiment.generator("train"))
    check_divergence(experiment.train_spec, copy.deepcopy(state))  # once a step
    state.diverged.fill_(True)
    with pytest.raises(DivergedError, match=r"its data reach 3\d\d: dataset\.standardize"):
        check_divergence(experiment.train_spec, state)


REFUSED = {
    "model=mlp": "model MLP reads points of one shape: model=lstm, model=transformer",
    "model=gaussian": "model Gaussian reads points of one shape",
    "method=ssm": "method SlicedScoreMatching takes points of one shape: method=pcd",
    "method=nce": "method NoiseContrastiveEstimation takes points",
    "method=improved_cd": "method ImprovedContrastiveDivergence takes points",
    "sampler=tempering": "sampler Tempering moves points of one shape",
    "sampler=mala": "have no differences to jump by: give sampler.jumps=null",
    "sampler=hmc": "have no differences to jump by: give sampler.jumps=null",
    "dataset.standardize=whiten": "cannot be whitened",
}


@pytest.mark.slow
@pytest.mark.parametrize("word", REFUSED)
def test_classes_for_fixed_shapes_are_refused_in_one_line(command, word):
    write_waves()
    before = [w for w in ("model=lstm", "sampler=langevin") if w[:6] != word[:6]]
    outcome = command("check", *FILE, *before, word, "train.batch_size=16")
    assert outcome.code == 2
    assert REFUSED[word] in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.slow
def test_all_unsuitable_classes_are_named_at_once(command):
    write_waves()
    outcome = command("check", *FILE, "model=mlp", "method=sm", "sampler=tempering")
    assert outcome.code == 2
    assert outcome.err.count("the sequences are of different lengths") == 3


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["mala", "hmc", "underdamped", "annealed"])
def test_each_sampler_that_keeps_lengths_is_accepted(command, sampler):
    write_waves()
    jumps = ["sampler.jumps=null"] if sampler in ("mala", "hmc") else []
    outcome = command("check", *FILE, "model=transformer", f"sampler={sampler}", *jumps,
                      "train.batch_size=16", "method.slots=32", "model.width=8")  # fmt: skip
    assert outcome.code == 0, outcome.err


@pytest.mark.slow
def test_a_fixed_length_model_scores_only_full_sequences(command, no_pictures):
    """A run on one length does not take a shorter sequence for one."""
    x, steps = waves()
    np.save("whole.npy", x)
    np.savez("waves.npz", x=x, lengths=steps)
    outcome = command("dataset=file", "dataset.path=whole.npy", *KINDS["conv1d"], *SMALL,
                      "train.steps=1", "diagnostics.draws=8", "diagnostics.chains=4",
                      "hydra.run.dir=run")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "lengths" not in np.load("run/samples/final.npz")
    outcome = command("score", "run", "--data", "waves.npz", "--out", "e.npy")
    assert outcome.code == 2
    assert "waves.npz has nan in row" in outcome.err
