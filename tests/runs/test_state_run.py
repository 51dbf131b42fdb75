"""Runs on binary states, from their data to samples and scores; other parts refuse states."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from same_state import run_differences, stopped_after

from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.errors import ConfigError, DataError
from ebmtrain.runs.loading import load

DATA = ("dataset=bars_and_stripes", "dataset.copies=4")
SMALL = (
    "train.steps=6", "train.batch_size=16", "train.log_every=2", "checkpoint.every=2",
    "checkpoint.keep=9", "samples.count=40", "samples.chains=40", "samples.burn_in=3",
    "samples.thin=1", "evaluation.every=4", "optimizer.schedule.warmup_steps=0",
    "device.threads=1", "quality.points=16", "quality.shuffles=20", "diagnostics.chains=4",
    "diagnostics.draws=8", "diagnostics.thin=1",
)  # fmt: skip
RBM = ("model=rbm", "model.hidden=4", "sampler=block_gibbs")
KINDS = {
    "pcd": (*RBM, "method=pcd", "method.slots=32", "method.reinit=0.2"),
    "cd": ("model=rbm", "model.centred=true", "sampler=gibbs", "method=cd", "method.start=noise"),
    "jarzynski": ("model=mlp", "model.width=8", "sampler=gwg", "sampler.proposals=3",
                  "method=jarzynski", "method.walkers=32", "method.moved=16"),
    "pseudo_likelihood": ("model=ising", "model.lattice=torus", "model.fields=true",
                          "sampler=gibbs", "method=pseudo_likelihood", "method.l1=held_out"),
    "ed": ("model=mlp", "model.width=8", "sampler=gwg", "sampler.proposals=3", "method=ed"),
    "nce": (*RBM, "method=nce", "method.noise=frequencies"),
}  # fmt: skip


def compose(*words: str):
    return presets.to_plain(presets.compose_config([*DATA, *words]))


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("which", KINDS)
def test_a_run_is_trained_resumed_sampled_and_scored(command, which):
    outcome = command(*DATA, *KINDS[which], *SMALL, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    metrics = json.loads(Path("run/result.json").read_text())["metrics"]
    wanted = {"kl", "log_likelihood_total", "pseudo_likelihood", "mmd2", "energy_gap"}
    assert wanted <= metrics.keys()
    assert not {"ksd2", "temperature_fitted"} & metrics.keys()
    # Block Gibbs evaluates no energy.
    assert ("ess_per_evaluation" in metrics) <= ("sampler=block_gibbs" not in KINDS[which])

    cut = stopped_after(Path("run"), 4, Path("copy"))
    assert command("resume", "copy").code == 0
    assert run_differences(Path("run"), cut) == []

    x = np.load("run/samples/final.npz")["x"]
    assert x.shape == (40, 3, 3)
    assert set(np.unique(x)) <= {0.0, 1.0}
    assert command("sample", "run", "count=7", "start=noise", "out=s.npy").code == 0
    assert set(np.unique(np.load("s.npy"))) <= {0.0, 1.0}

    outcome = command("score", "run", "--data", "s.npy", "--features", "--out", "h.csv")
    if "model=rbm" in KINDS[which]:
        model = load("run").standard_energy
        hidden = model.hidden(torch.from_numpy(np.load("s.npy")).float()).detach().numpy()
        found = np.genfromtxt("h.csv", delimiter=",", skip_header=1)
        np.testing.assert_allclose(found, hidden, rtol=1e-6)
    else:
        assert (outcome.code, "train with model=rbm" in outcome.err) == (2, True)
    assert command("score", "run", "--data", "s.npy", "--out", "e.csv").code == 0
    neg_log_p = np.genfromtxt("e.csv", delimiter=",", names=True)["neg_log_p"]
    energy = load("run").energy(np.load("s.npy")).double().numpy()
    np.testing.assert_allclose(neg_log_p, energy + metrics["log_z"], rtol=1e-6)


@pytest.fixture
def run(command, no_pictures):
    assert command(*DATA, *KINDS["pcd"], *SMALL, "train.steps=1", "hydra.run.dir=run").code == 0
    return load("run")


@pytest.mark.slow
def test_what_is_no_state_is_refused_by_its_value(run, command):
    x = np.zeros((3, 3, 3))
    x[2, 0, 1] = 0.417
    np.save("x.npy", x)
    outcome = command("score", "run", "--data", "x.npy", "--out", "e.csv")
    assert outcome.code == 2
    assert "element 1, 2 of row 3 (counted from 1) is 0.417" in outcome.err
    assert not Path("e.csv").exists()
    with pytest.raises(DataError, match=r"is 0\.417,"):
        run.energy(x)
    with pytest.raises(ConfigError, match="points of this model are states"):
        run.denoise(x[:2], 0.1)
    with pytest.raises(ConfigError, match="points of this model are states"):
        run.inpaint(x[:2], np.eye(3) == 0)
    outcome = command("model=composition", "model.runs=[run]", "train.steps=0")
    assert "run is of states, and compositions are of points in R^d" in outcome.err
    outcome = command("model.init=run", "dataset=wine", "train.steps=1", *RBM)
    assert outcome.code == 2


@pytest.mark.slow
def test_figures_of_states_are_images(command):
    assert command(*DATA, *KINDS["pcd"], *SMALL, "hydra.run.dir=run", "plots.every=4").code == 0
    drawn = {path.name for path in Path("run/plots").iterdir()}
    assert {"samples_final.png", "chain_final.png", "filters_final.png"} <= drawn


REFUSED = {
    "sampler=mala": "sampler Mala does not take them: sampler=gibbs, gwg or block_gibbs",
    "sampler=tempering": "sampler.sampler Mala does not take them",
    "method=dsm": "method DenoisingScoreMatching does not take them",
    "method=improved_cd": "method ImprovedContrastiveDivergence does not take them",
    "method=jem": "method JointEnergyModel does not take them",
    "method.data_noise=0.1": "method.data_noise=0.1 adds Gaussian noise to them",
    "model=gaussian": "model Gaussian does not take them",
    "evaluation=ais": "evaluation AnnealedImportanceSampling does not take them",
    "evaluation=peers": "evaluation Baselines does not take them",
}


@pytest.mark.parametrize("word", REFUSED)
def test_parts_of_real_numbers_are_refused_by_name(word):
    with pytest.raises(ConfigError) as raised:
        build(compose("model=rbm", "sampler=gibbs", word))
    assert f"the points are states 0 and 1, and {REFUSED[word]}" in str(raised.value)


def test_nce_needs_noise_of_states():
    with pytest.raises(ConfigError, match="noise=gaussian is not"):
        build(compose(*RBM, "method=nce"))
    config = presets.to_plain(presets.compose_config(["method=nce", "method.noise=frequencies"]))
    with pytest.raises(ConfigError, match="noise=frequencies is not"):
        build(config)


def test_pairs_are_selected_of_models_with_couplings():
    with pytest.raises(ConfigError, match="selects pairs of sites: model=ising"):
        build(compose("model=mlp", "sampler=gibbs", "method=pseudo_likelihood", "method.l1=0.1"))
    with pytest.raises(ConfigError, match="this model has none: model=ising"):
        build(compose("model=mlp", "sampler=gibbs", "evaluation=couplings"))


def test_block_gibbs_needs_hidden_units():
    with pytest.raises(ConfigError, match="sampler BlockGibbs draws hidden units, and model MLP"):
        build(compose("model=mlp", "sampler=block_gibbs"))


@pytest.mark.parametrize(
    "words", [("model=rbm",), ("sampler=gibbs",), ("evaluation=ais_states",)], ids=lambda w: w[0]
)
def test_parts_of_states_refuse_real_numbers(words):
    with pytest.raises(
        ConfigError, match=r"the points are real numbers, and .* does not take them"
    ):
        build(presets.to_plain(presets.compose_config(["dataset.n_train=50", *words])))


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_the_members_of_an_ensemble_are_those_of_separate_runs(command):
    words = (*DATA, *KINDS["pcd"], *SMALL)
    outcome = command(*words, "train.ensemble=2", "seed=0")
    assert outcome.code == 0, outcome.err
    assert "the updates of 2 members are made as one" in outcome.out + outcome.err
    assert command(*words, "seed=1", "hydra.run.dir=one").code == 0
    (second,) = Path().glob("outputs/sweeps/*/1_seed=1/result.json")
    found, alone = (json.loads(p.read_text())["metrics"]["nll"]
                    for p in (second, Path("one/result.json")))  # fmt: skip
    assert found == pytest.approx(alone, rel=1e-4)
