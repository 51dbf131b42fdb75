"""`ebmtrain sample RUN --denoise FILE noise=SIGMA`: draws from p(x | y), in somebody's units."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import ebmtrain
from ebmtrain.datasets.digits import digits
from ebmtrain.errors import ConfigError
from ebmtrain.models.double_well import DoubleWell
from ebmtrain.models.wrappers import PosteriorEnergy
from ebmtrain.score import energy_and_gradient
from ebmtrain.types import Standardization

Y = torch.tensor([[1004.0, 60.0, 0.25], [990.0, -70.0, 0.5]], dtype=torch.float64)


@pytest.fixture(scope="module", params=[("true", 1.0), ("whiten", 0.5), ("false", 2.0)], ids=str)
def run(request, gaussian_run) -> Path:
    """In units of its own, at a temperature of its own; of raw units, an untrained one."""
    scaled, temperature = request.param
    untrained = ("train.steps=1", "model.initial_std=20") if scaled == "false" else ()
    return gaussian_run(
        f"dataset.standardize={scaled}", f"sampler.temperature={temperature}", *untrained
    )


class Posterior(NamedTuple):
    mean: Tensor
    """(n, d)."""
    covariance: Tensor
    """(d, d)."""


def exact_posterior(model: ebmtrain.runs.trained_run.Run, y: Tensor, noise: float) -> Posterior:
    """Of a parabola E with second derivatives H and minimum m at temperature T: precision
    P = H / T + I / noise^2, mean P^-1 (H m / T + y / noise^2)."""
    at = model.experiment.standardization.shift
    hessian = torch.autograd.functional.hessian(lambda v: model.energy(v[None])[0], at)
    slope = torch.autograd.functional.jacobian(lambda v: model.energy(v[None])[0], at)
    prior, pull = hessian / model.temperature, slope / model.temperature
    covariance = torch.linalg.inv(prior + torch.eye(len(at)) / noise**2)
    # About `at`, of which the rest are small differences.
    return Posterior(at + ((y - at) / noise**2 - pull) @ covariance, covariance)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.02, 5.0])
def test_draws_have_the_moments_of_the_posterior(run: Path, noise: float):
    """Chains are independent; within 4 standard errors, whether the noise is far below the spread
    of a column or far above it."""
    model, n = ebmtrain.load(run), 1500
    found = model.denoise(Y, noise, n, chains=n, burn_in=300)
    assert found.draws.shape == (2, n, 3)
    mean, covariance = exact_posterior(model, Y, noise)
    spread = covariance.diagonal().sqrt()
    for expected, points in zip(mean, found.draws, strict=True):
        assert ((points.mean(0) - expected).abs() < 4 * spread / n**0.5).all()
        # Var of an element of the sample covariance: (C_ii C_jj + C_ij^2) / n.
        error = ((torch.outer(spread, spread).square() + covariance.square()) / n).sqrt()
        assert ((points.T.cov() - covariance).abs() < 4 * error).all()
    torch.testing.assert_close(found.mean, found.draws.mean(1))


@pytest.mark.slow
def test_chains_start_near_the_point_within_the_box_of_the_data(run: Path):
    """Before any step, with next to no noise: at a point inside, and at the nearest one of
    the box to a point that lies far beyond all data, where no energy was learnt."""
    model = ebmtrain.load(run)
    units, box = model.experiment.standardization, model.experiment.region
    inside = units.to_data((2 * box.low + box.high) / 3)
    beyond = units.to_data(box.high + torch.tensor([50.0, 0, 70], dtype=torch.float64))
    found = model.denoise(torch.stack([inside, beyond]), 1e-6, 5, burn_in=0)
    for draws, expected in zip(found.draws, (inside, units.to_data(box.high)), strict=True):
        torch.testing.assert_close(draws, expected.expand(5, 3), rtol=0, atol=1e-3)


def test_the_mean_does_not_depend_on_the_number_of_draws(run: Path):
    model = ebmtrain.load(run)
    few, many = (model.denoise(Y, 5.0, count, chains=400, burn_in=100) for count in (1, 64))
    assert few.draws.shape == (2, 1, 3)
    assert torch.equal(few.draws[:, 0], many.draws[:, 0])
    torch.testing.assert_close(few.mean, many.draws.mean(1))


@pytest.mark.parametrize("mixing", [None, torch.tensor([[0.9, 0.3], [0.3, 0.7]]).double()])
def test_the_energy_is_that_of_the_posterior(mixing):
    """E(u) + T ||x(u) - y||^2 / (2 sigma^2) at u = b + A z, up to a constant; its gradient in
    closed form is that of automatic differentiation."""
    units = Standardization(*torch.tensor([[3.0, -1.0], [2.0, 0.5]]).double(), mixing)
    y, noise, temperature = torch.tensor([2.0, 0.2]).double(), 0.7, 1.7
    energy = DoubleWell().double()
    posterior = PosteriorEnergy(energy, units, y, noise, temperature, torch.ones(2)).double()
    z = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = posterior.points(z)
    misfit = (units.to_data(u) - y).square().sum(1) / (2 * noise**2)
    difference = posterior(z) - energy(u) - temperature * misfit
    torch.testing.assert_close(difference, difference[:1].expand(9))
    given, gradient = posterior.energy_and_gradient(z)
    torch.testing.assert_close(given, posterior(z))
    leaf = z.clone().requires_grad_()
    torch.testing.assert_close(gradient, torch.autograd.grad(posterior(leaf).sum(), leaf)[0])
    assert torch.equal(energy_and_gradient(posterior, z)[1], gradient)


def test_the_command_writes_samples_and_means(command, run: Path):
    np.save("some.npy", Y.numpy())
    told = command("sample", run, "--denoise", "some.npy", "noise=5", "count=3", "out=x.npz")
    assert told.out == "2 points (some.npy), freed of noise 5, 3 times each: x.npz\n", told
    with np.load("x.npz") as file:
        x, energy, mean = file["x"], file["energy"], file["mean"]
    assert (x.shape, mean.shape) == ((2, 3, 3), (2, 3))
    model = ebmtrain.load(run)
    np.testing.assert_array_equal(x, model.denoise(Y, 5.0, 3).draws.numpy())
    energies = model.energy(x.reshape(-1, 3)).view(2, 3)
    np.testing.assert_allclose(energy, energies.numpy(), rtol=1e-4, atol=1e-4)
    assert command("sample", run, "--denoise", "some.npy", "noise=5", "out=x.csv").code == 0
    assert np.loadtxt("x.csv", delimiter=",").shape == (2, 3)


def test_images_are_plotted_next_to_the_noisy_ones(command, folder, no_pictures):
    words = (
        "dataset=digits", "model=gaussian", "method=sm", "train.steps=2", "evaluation.every=9",
        "evaluation.resolution=8", "samples.count=20", "samples.chains=20", "samples.burn_in=2",
        "samples.thin=1", "quality.points=10", "quality.shuffles=5", "diagnostics.chains=4",
        "diagnostics.draws=8", "diagnostics.thin=1", "device.threads=1", "hydra.run.dir=run",
    )  # fmt: skip
    trained = command(*words)
    assert trained.code == 0, trained.err
    np.save("y.npy", digits(seed=0).holdout[:5].numpy() + 3.0)
    told = command("sample", "run", "--denoise", "y.npy", "noise=3")
    assert told.code == 0, told.err
    assert told.lines[-1] == "picture: run/samples/denoised.png"
    with Image.open("run/samples/denoised.png") as picture:
        assert picture.width > 1000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give noise=SIGMA"),
        (("noise=0",), "noise must be greater than 0, got 0"),
        (("noise=much",), "noise must be a valid number"),
        (("noise=1", "label=1"), "unknown option label"),
        (("noise=1", "--inpaint", "mask.csv"), "exclude each other"),
        (("noise=1", "--data", "some.npy"), "--data is read by --inpaint"),
    ],
)
def test_bad_input_is_refused_in_one_line(command, run: Path, words, said):
    np.save("some.npy", Y.numpy())
    outcome = command("sample", run, "--denoise", "some.npy", "out=out.npz", *words)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1), outcome
    assert said in outcome.err
    assert not Path("out.npz").exists()


def test_a_sampler_at_temperature_zero_is_refused(command, gaussian_run):
    cold = gaussian_run("sampler=langevin", "sampler.temperature=0", "train.steps=2")
    np.save("some.npy", Y.numpy())
    outcome = command("sample", cold, "--denoise", "some.npy", "noise=1")
    assert outcome.code == 2
    assert "sampler.temperature is 0" in outcome.err


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_points_that_are_not_finite_are_refused(run: Path, bad: float):
    """Draws would be none either, and the means silently with them."""
    model, y = ebmtrain.load(run), Y.clone()
    y[1, 2] = bad
    with pytest.raises(ConfigError, match=f"hold {bad}, and denoising draws points of finite"):
        model.denoise(y, 1.0)
    with pytest.raises(ConfigError, match=f"hold {bad}, and inpainting fills in points of finite"):
        model.inpaint(y, torch.tensor([True, True, False]))


def test_points_of_another_shape_are_refused(run: Path):
    model = ebmtrain.load(run)
    with pytest.raises(ConfigError, match=r"points are of shape \(2,\): the model takes \(3,\)"):
        model.denoise(Y[:, :2], 1.0)
    with pytest.raises(ConfigError, match=r"points are of shape \(2,\): the model takes \(3,\)"):
        model.inpaint(Y[:, :2], torch.tensor([True, False]))
    with pytest.raises(ConfigError, match=r"mask is of shape \(2,\): the points are of \(3,\)"):
        model.inpaint(Y, torch.tensor([True, False]))
