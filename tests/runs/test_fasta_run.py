"""Runs on families of sequences: trained, resumed, sampled and scored as FASTA files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from same_state import run_differences, stopped_after
from test_state_run import SMALL

from ebmtrain.datasets.io.read_fasta import read_fasta
from ebmtrain.runs.loading import load

METHODS = {
    "pcd": ("method=pcd", "method.slots=32"),
    "pseudo_likelihood": ("method=pseudo_likelihood", "method.l2=0.01"),
    "jarzynski": ("method=jarzynski", "method.walkers=32", "method.moved=16"),
}


def family(folder: Path) -> str:
    codes = torch.randint(3, (60, 5), generator=torch.Generator().manual_seed(0))
    codes[:, 0].clamp_(min=1)  # no sequence of gaps alone
    text = "".join(f">s{i}\n{''.join('-AB'[k] for k in row)}\n" for i, row in enumerate(codes))
    (folder / "family.fasta").write_text(text)
    return "dataset.path=family.fasta"


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("which", METHODS)
def test_a_run_is_trained_resumed_sampled_and_scored(command, folder, which):
    data = ("model=potts", "dataset=fasta", family(folder), "dataset.alphabet=-AB",
            "dataset.identity=0")  # fmt: skip
    outcome = command(*data, *METHODS[which], *SMALL, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    metrics = json.loads(Path("run/result.json").read_text())["metrics"]
    wanted = {"nll", "log_z", "pseudo_likelihood", "mmd2", "energy_gap", "model_entropy"}
    assert wanted <= metrics.keys()

    cut = stopped_after(Path("run"), 4, Path("copy"))
    assert command("resume", "copy").code == 0
    assert run_differences(Path("run"), cut) == []

    outcome = command("sample", "run", "--out", "s.fasta", "count=7", "start=noise")
    assert outcome.code == 0, outcome.err
    codes = read_fasta("s.fasta", "-AB", 5).codes
    assert len(codes) == 7
    assert command("score", "run", "--data", "s.fasta", "--out", "e.csv").code == 0
    neg_log_p = np.genfromtxt("e.csv", delimiter=",", names=True)["neg_log_p"]
    energy = load("run").energy(codes).double().numpy()
    np.testing.assert_allclose(neg_log_p, energy + metrics["log_z"], rtol=1e-6)

    assert command("score", "run", "--contacts", "--out", "c.csv").code == 0
    table = np.genfromtxt("c.csv", delimiter=",", names=True)
    assert len(table) == 10
    assert (np.diff(table["score"]) <= 0).all()
    (found,) = [r for r in table if (r["i"], r["j"]) == (2, 4)]
    assert found["score"] == pytest.approx(float(load("run").standard_energy.contacts()[1, 3]))


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_potts_synthetic_gives_errors_bounds_and_precision(command):
    """The bounds hold the NLL by enumeration, which also gives KL from the known distribution."""
    sizes = [w for w in SMALL if not w.startswith(("train.", "evaluation."))]
    outcome = command("experiment=potts_synthetic", *sizes, "dataset.sites=6", "dataset.states=3",
                      "dataset.contacts=5", "evaluation.ours.chains=200", "train.steps=150",
                      "hydra.run.dir=run")  # fmt: skip
    assert outcome.code == 0, outcome.err
    metrics = json.loads(Path("run/result.json").read_text())["metrics"]
    wanted = {"coupling_rmse", "nll_lower", "nll_upper", "ppv", "true_log_z", "regret"}
    assert wanted <= metrics.keys()
    assert metrics["coupling_rmse"] < 0.1
    outcome = command("evaluate", "run", "evaluation=quadrature", "evaluation.every=1")
    assert outcome.code == 0, outcome.err
    exact = json.loads(Path("run/evaluation.json").read_text())["metrics"]
    assert metrics["nll_lower"] <= exact["nll"] <= metrics["nll_upper"]
    assert 0 < exact["kl"] < 0.05


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("sampler=mala",), "sampler Mala does not take them: sampler=gibbs"),
        (("method=dsm",), "method DenoisingScoreMatching does not take them"),
        (("model=mlp", "sampler=gibbs"), "model MLP does not take them: model=potts"),
        (("evaluation=ais",), "does not take them: evaluation=quadrature or ais_states"),
    ],
)
def test_other_parts_are_refused_by_name(command, folder, words, text):
    outcome = command("check", "model=potts", "dataset=fasta", family(folder),
                      "dataset.alphabet=-AB", *words)  # fmt: skip
    assert outcome.code == 2
    assert "the points are symbols of an alphabet, and" in outcome.err
    assert text in outcome.err


def test_a_bad_family_ends_in_one_line(command, folder):
    (folder / "bad.fasta").write_text(">one\nACDE\n>two\nACZE\n")
    outcome = command("model=potts", "dataset=fasta", "dataset.path=bad.fasta", "method=pcd")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert "record 2 (two) has 'Z' at position 3" in line
    assert not (folder / "outputs").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_contacts_and_fasta_are_of_symbols_alone(command, folder):
    words = ("dataset=bars_and_stripes", "model=rbm", "sampler=block_gibbs", "method=cd", *SMALL)
    assert command(*words, "train.steps=1", "hydra.run.dir=run").code == 0
    outcome = command("score", "run", "--contacts", "--out", "c.csv")
    assert (outcome.code, "train with model=potts" in outcome.err) == (2, True)
    outcome = command("sample", "run", "--out", "s.fasta")
    assert (outcome.code, "these points are numbers" in outcome.err) == (2, True)
