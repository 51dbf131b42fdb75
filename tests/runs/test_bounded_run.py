"""A run on data with bounds: nothing that it gives is outside, and all numbers agree."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

import ebmtrain
from ebmtrain.errors import ConfigError

R = np.random.default_rng(0)
X = np.column_stack([R.lognormal(1, 0.8, 400), R.beta(0.7, 0.7, 400)])
OPTION = "dataset.support={price: positive, share: [0,1]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bounded")
    table = folder / "x.csv"
    np.savetxt(table, X, "%.17g", delimiter=",", header="price,share", comments="")
    return folder


@pytest.fixture
def train(folder, tiny_file, monkeypatch, command):
    monkeypatch.chdir(folder)

    def train(name, *words):
        if not (folder / name).exists():
            outcome = command(
                *tiny_file, "dataset=file", "dataset.path=x.csv", OPTION, "train.steps=12",
                "evaluation.resolution=512", f"hydra.run.dir={name}", *words,
            )  # fmt: skip
            assert outcome.code == 0, outcome.err
            assert "warning: plots" not in outcome.out
        return folder / name

    return train


@pytest.fixture(params=["1.0", "0.5"])
def path(request, train):
    return train(f"run{request.param}", f"sampler.temperature={request.param}")


def inside(x) -> bool:
    x = np.asarray(x)
    return bool((x[..., 0] > 0).all() and (x[..., 1] > 0).all() and (x[..., 1] < 1).all())


@pytest.mark.slow
def test_the_density_in_the_units_of_the_data_integrates_to_one(path):
    """By a rule in log price and logit share of its own: p(x) |dx/dy|."""
    run = ebmtrain.load(path)
    n = 800
    a, b = torch.linspace(-9, 12, n).double(), torch.linspace(-30, 30, n).double()
    y = torch.cartesian_prod(a, b)
    x = torch.stack([y[:, 0].exp(), y[:, 1].sigmoid()], 1)
    log_slope = (
        y[:, 0] + torch.nn.functional.logsigmoid(y[:, 1]) + torch.nn.functional.logsigmoid(-y[:, 1])
    )
    log_p = -run.energy(x).double() / run.temperature - run.log_z
    cell = float((a[1] - a[0]) * (b[1] - b[0]))
    assert float((log_p + log_slope).exp().sum()) * cell == pytest.approx(1, abs=5e-3)
    holdout = run.experiment.dataset.holdout
    nll = float((run.energy(holdout).double() / run.temperature + run.log_z).mean())
    assert run.result["metrics"]["nll"] == pytest.approx(nll, abs=1e-4)
    assert run.energy([[-1.0, 0.5]]).item() == run.energy([[1.0, 1.0]]).item() == torch.inf


@pytest.mark.slow
def test_samples_scores_and_filled_values_are_inside(path, command, tmp_path):
    run = ebmtrain.load(path)
    assert inside(run.sample(200))
    assert inside(np.load(path / "samples/final.npz")["x"])
    filled = run.inpaint(X[:3], [True, False], 20)
    assert inside(filled)
    assert torch.equal(filled[..., 0], torch.from_numpy(X[:3, :1]).expand(3, 20))
    with pytest.raises(ConfigError, match=r"point 2 \(counted from 1\) is outside"):
        run.inpaint([[1.0, 0.5], [-1.0, 0.5]], [True, False])
    run.inpaint([[1.0, 7.0]], [True, False])  # the missing value is not read
    with pytest.raises(ConfigError, match="have bounds"):
        run.denoise(X[:3], 0.1)
    rows = np.vstack([X[:2], [[-3.0, 0.5]]])
    np.savetxt(tmp_path / "y.csv", rows, "%.17g", delimiter=",", header="price,share", comments="")
    outcome = command("score", path, "--data", tmp_path / "y.csv", "--out", tmp_path / "s.npz")
    assert outcome.code == 0, outcome.err
    found = np.load(tmp_path / "s.npz")
    energies = run.energy(rows).double()
    np.testing.assert_allclose(found["neg_log_p"], energies / run.temperature + run.log_z)
    assert np.isinf(found["neg_log_p"]).tolist() == [False, False, True]
    product = ("model=composition", "train.steps=0")
    outcome = command("check", *product, f"model.runs=[{path}]")
    assert outcome.code != 0
    assert "compositions are of points in R^d" in outcome.err


@pytest.mark.slow
def test_a_run_that_is_moved_keeps_the_bounds(path, tmp_path):
    run = ebmtrain.load(shutil.copytree(path, tmp_path / "moved"))
    assert run.experiment.standardization.bounds is not None
    assert torch.equal(run.sample(50), ebmtrain.load(path).sample(50))
