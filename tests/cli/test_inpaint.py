"""`ebmtrain sample RUN --inpaint MASK`: draws from p(missing | known), in somebody's units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ebmtrain
from ebmtrain.models.wrappers import AffineSubspaceEnergy
from ebmtrain.samplers.chain import run_chain


class Quartic(nn.Module):
    def forward(self, x):
        return (x**4 * torch.tensor([1.0, 0.5, 2.0])).sum(1) + x.prod(1)


@pytest.fixture(scope="module", params=["true", "whiten"])
def run(request, gaussian_run) -> Path:
    return gaussian_run(f"dataset.standardize={request.param}")


def test_draws_are_thinned_after_the_burn_in(run: Path, monkeypatch):
    """70 draws of 10 chains with a burn-in of 3 and 2 steps between draws: 3 + 6 * 2 steps."""
    model, steps = ebmtrain.load(run), []
    monkeypatch.setattr(
        "ebmtrain.samplers.draw.run_chain",
        lambda *arguments: steps.append(arguments[3]) or run_chain(*arguments),
    )
    x, settings = torch.zeros(1, 3), {"chains": 10, "burn_in": 3, "thin": 2}
    model.inpaint(x, [True, False, False], 70, **settings)
    assert steps == [3, *[2] * 6]
    steps.clear()
    model.sample(70, **settings)
    assert steps == [3, *[2] * 6]


@pytest.mark.slow
def test_draws_have_the_moments_of_the_conditional_density(run: Path):
    """E is a parabola, so missing given known is Gaussian: its mean and covariance follow from the
    second derivatives L of E, mean_m - L_mm^-1 L_mk (x_k - mean_k) and L_mm^-1. Chains are
    independent; within 4 standard errors."""
    model = ebmtrain.load(run)
    shift = model.experiment.standardization.shift
    curvature = torch.autograd.functional.hessian(lambda v: model.energy(v[None])[0], shift)
    slope = torch.autograd.functional.jacobian(lambda v: model.energy(v[None])[0], shift)
    mean = shift - torch.linalg.solve(curvature, slope)
    x = torch.tensor([[1004.0, 0.0, 0.0], [995.0, 9e9, -1e9]], dtype=torch.float64)
    n = 1500
    drawn = model.inpaint(x, [True, False, False], n, chains=n, burn_in=150)
    assert drawn.shape == (2, n, 3)
    assert (drawn[..., 0] == x[:, :1]).all()
    covariance = torch.linalg.inv(curvature[1:, 1:])
    for row, points in zip(x, drawn[..., 1:], strict=True):
        expected = mean[1:] - covariance @ curvature[1:, 0] * (row[0] - mean[0])
        error = (covariance.diagonal() / n).sqrt()
        assert ((points.mean(0) - expected).abs() < 4 * error).all()
        found = points.T.cov()
        spread = torch.outer(*[covariance.diagonal().sqrt()] * 2) * (2 / n) ** 0.5
        assert ((found - covariance).abs() < 4 * spread).all()


def test_the_gradient_on_a_subspace_is_that_of_the_energy():
    """Of E(b + A z), A of three rows and two columns; rejection would make up for a wrong one."""
    draw = torch.Generator().manual_seed(0)
    a, b, z = (torch.randn(n, generator=draw).double() for n in ((3, 2), (3,), (7, 2)))
    flat = AffineSubspaceEnergy(Quartic(), b, a)
    leaf = z.clone().requires_grad_()
    expected = Quartic()(torch.stack([b + a @ row for row in leaf]))
    energy, slope = flat.energy_and_gradient(z)
    torch.testing.assert_close(energy, expected)
    torch.testing.assert_close(flat(z), expected)
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), leaf)[0])


def test_chains_start_uniform_in_the_region_of_the_data(run: Path):
    """Before any step, the missing numbers are those of x(u), u uniform in the box, whatever mixes
    the coordinates: mean and covariance within 4.5 standard errors."""
    model, n = ebmtrain.load(run), 4000
    units, box = model.experiment.standardization, model.experiment.region
    x = torch.tensor([[1004.0, 0.0, 0.0]], dtype=torch.float64)
    first = model.inpaint(x, [True, False, False], n, chains=n, burn_in=0)[0, :, 1:]
    mixing = torch.eye(3).double() if units.mixing is None else units.mixing
    slope = (units.scale[:, None] * mixing)[1:]
    covariance = slope @ ((box.high - box.low).square() / 12).diag() @ slope.T
    spread = covariance.diagonal().sqrt()
    mean = units.to_data((box.low + box.high) / 2)[1:]
    assert ((first.mean(0) - mean).abs() < 4.5 * spread / n**0.5).all()
    # Those of normal numbers, which flat ones stay below.
    error = ((torch.outer(spread, spread).square() + covariance.square()) / n).sqrt()
    assert ((first.T.cov() - covariance).abs() < 4.5 * error).all()


def test_the_command_writes_samples(command, run: Path):
    Path("mask.csv").write_text("1,0,1\n")
    np.save("some.npy", [[1001.0, 0.0, 0.31], [999.0, 0.0, 0.28]])
    told = command("sample", run, "--inpaint", "mask.csv", "--data", "some.npy", "count=3",
                   "out=x.npz")  # fmt: skip
    assert told.out == "2 points (some.npy), 1 of 3 numbers drawn, 3 times each: x.npz\n", told
    with np.load("x.npz") as file:
        x, energy = file["x"], file["energy"]
    assert x.shape == (2, 3, 3)
    assert (x[1, :, 0] == 999.0).all()
    assert len({*x[:, :, 1].ravel()}) == 6
    energies = ebmtrain.load(run).energy(x.reshape(-1, 3)).view(2, 3)
    np.testing.assert_allclose(energy, energies.numpy(), rtol=1e-4, atol=1e-4)
    assert command("sample", run, "--inpaint", "mask.csv", "out=x.csv", "count=2").code == 0
    held_out = ebmtrain.load(run).experiment.dataset.holdout  # type: ignore[union-attr]
    assert np.loadtxt("x.csv", delimiter=",").shape == (2 * min(16, len(held_out)), 3)


@pytest.mark.parametrize(
    ("mask", "words", "said"),
    [
        ("1,0\n", (), "must hold 3 zeros and ones"),
        ("1,0.5,0\n", (), "must hold 3 zeros and ones"),
        ("1,1,1\n", (), "keep some numbers of a point and not all"),
        ("1,0,1\n", ("label=1",), "unknown option label"),
        ("1,0,1\n", ("burn_in=-1",), "burn_in must be a whole number"),
    ],
)
def test_bad_input_is_refused_in_one_line(command, run: Path, mask, words, said):
    Path("mask.csv").write_text(mask)
    outcome = command("sample", run, "--inpaint", "mask.csv", "out=out.npz", *words)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1), outcome
    assert said in outcome.err
    assert not Path("out.npz").exists()


def test_data_without_a_mask_are_refused(command, run: Path):
    outcome = command("sample", run, "--data", "mask.csv")
    assert outcome.code == 2
    assert "--inpaint" in outcome.err
