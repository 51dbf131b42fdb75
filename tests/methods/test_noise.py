"""The distributions that noise-contrastive estimation tells the data from."""

from __future__ import annotations

import math

import pytest
import torch
from repeats import assert_mean, normal, seeded

from ebmtrain.methods.noise import NOISE_DISTRIBUTIONS

MIX = torch.tensor([[1.0, 0.0], [1.5, 0.4]], dtype=torch.float64)
EACH = pytest.mark.parametrize("name", ["gaussian", "uniform", "kernel"])  # of real numbers
WIDTH = pytest.mark.parametrize("width", [1.0, 1.7])


def points(n: int = 1_000) -> torch.Tensor:
    """Correlated, and not about the origin."""
    return normal(n, 2) @ MIX.T + torch.tensor([3.0, -1.0], dtype=torch.float64)


@EACH
@WIDTH
def test_the_density_is_that_of_the_samples(name, width):
    """E_noise[q / p] = 1 for a narrower Gaussian q inside of the noise, and for one elsewhere in
    it: importance sampling finds a wrong normalisation, a wrong place and a wrong shape."""
    noise, x = NOISE_DISTRIBUTIONS[name], points()
    fitted = noise.fit(x, width, seeded(1))
    y = noise.sample(fitted, 20_000, seeded(2))
    for shift in (0.0, 0.5):
        mean = x.mean(0) + shift * MIX.sum(1)
        q = torch.distributions.MultivariateNormal(mean, scale_tril=0.4 * MIX)
        assert_mean((q.log_prob(y) - noise.log_prob(fitted, y)).exp(), 1)


@WIDTH
def test_gaussian_has_the_moments_of_the_points(width):
    x = points()
    fitted = NOISE_DISTRIBUTIONS["gaussian"].fit(x, width, seeded())
    y = NOISE_DISTRIBUTIONS["gaussian"].sample(fitted, 100_000, seeded(1))
    for i in range(2):
        assert_mean(y[:, i], x[:, i].mean().item())
        for j in range(2):
            assert_mean(
                (y - x.mean(0))[:, i] * (y - x.mean(0))[:, j],
                width**2 * torch.cov(x.T, correction=0)[i, j].item(),
            )


def test_uniform_is_on_the_box_of_the_points():
    x = points()
    fitted = NOISE_DISTRIBUTIONS["uniform"].fit(x, 1.5, seeded())
    y = NOISE_DISTRIBUTIONS["uniform"].sample(fitted, 100_000, seeded(1))
    side = 1.5 * (x.amax(0) - x.amin(0))
    centre = (x.amax(0) + x.amin(0)) / 2
    torch.testing.assert_close(y.amin(0), centre - side / 2, rtol=0, atol=0.01)
    torch.testing.assert_close(y.amax(0), centre + side / 2, rtol=0, atol=0.01)
    assert NOISE_DISTRIBUTIONS["uniform"].log_prob(fitted, centre[None]).item() == pytest.approx(
        -side.log().sum().item()
    )
    assert (
        NOISE_DISTRIBUTIONS["uniform"].log_prob(fitted, (centre + side)[None]).item() == -math.inf
    )


def test_uniform_noise_covers_every_training_point():
    """Not even the one that the box ends at, in either type."""
    for x in (points(), points().float(), points().float() + 10_000):
        fitted = NOISE_DISTRIBUTIONS["uniform"].fit(x, 1.0, seeded())
        drawn = NOISE_DISTRIBUTIONS["uniform"].sample(fitted, 100_000, seeded(1))
        for y in (x, drawn):
            assert NOISE_DISTRIBUTIONS["uniform"].log_prob(fitted, y).isfinite().all()


def test_kernel_density_has_silvermans_bandwidth():
    """Few points far apart: h = (4 / (K (d + 2)))^(1 / (d + 4)) standard deviations of them all."""
    x = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0], [4.0, 2.0]], dtype=torch.float64)
    fitted = NOISE_DISTRIBUTIONS["kernel"].fit(x, 0.1, seeded())
    h = 0.1 * (4 / (4 * 4)) ** (1 / 6) * torch.tensor([2.0, 1.0], dtype=torch.float64)
    y = NOISE_DISTRIBUTIONS["kernel"].sample(fitted, 100_000, seeded(1))
    nearest = torch.cdist(y, x).argmin(1)
    for k in range(4):
        assert_mean((nearest == k).double(), 0.25)
    for i in range(2):
        assert_mean((y - x[nearest])[:, i].square(), h[i].item() ** 2 * (1 + 1e-6))
    peak = -math.log(4) - h.log().sum() - math.log(2 * math.pi)
    torch.testing.assert_close(
        NOISE_DISTRIBUTIONS["kernel"].log_prob(fitted, x), peak.expand(4), rtol=0, atol=1e-4
    )


@EACH
def test_an_offset_costs_no_precision(name):
    """Points of a file need not be standardized: float32 at 1,000 beside float64 at the same."""
    x = (points() + 1_000).float()
    fitted = NOISE_DISTRIBUTIONS[name].fit(x, 1.0, seeded())
    exact = {key: value.double() for key, value in fitted.items()}
    found, truth = (
        NOISE_DISTRIBUTIONS[name].log_prob(fitted, x),
        NOISE_DISTRIBUTIONS[name].log_prob(exact, x.double()),
    )
    torch.testing.assert_close(found.double(), truth, rtol=0, atol=1e-3)


@EACH
def test_a_constant_coordinate_has_a_finite_density(name):
    x = torch.cat([points(), torch.full((1_000, 1), 5.0, dtype=torch.float64)], 1)
    for points_ in (x, x.float()):
        fitted = NOISE_DISTRIBUTIONS[name].fit(points_, 1.0, seeded())
        assert NOISE_DISTRIBUTIONS[name].log_prob(fitted, points_).isfinite().all()
        assert NOISE_DISTRIBUTIONS[name].sample(fitted, 100, seeded()).isfinite().all()
