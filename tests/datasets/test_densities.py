"""Laws that every density of the shipped presets obeys."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reference_samples import BY_NAME

# Computed here and elsewhere, in nats. The first is ln 5 + ln(2 pi e 0.3^2): an upper bound of any
# entropy of five such Gaussians, so the 2.047 of some notes is the noise of a sample.
ENTROPY = {
    "five_gaussians": 2.0394,
    "8gaussians": 2.832,
    "25gaussians": 2.145,
    "moons": 2.394,
    "circles": 3.268,
    "rings": 2.623,
    "checkerboard": math.log(32),
    "2spirals": 2.6455,
    "pinwheel": 2.318,
    "swissroll": 2.670,
}
HALF, CELL, PER_CELL = 6.5, 0.5, 10
"""A square that holds all of every toy but 1e-8, cut into cells, each with PER_CELL^2 midpoints."""


def midpoints():
    spacing = CELL / PER_CELL
    axis = torch.arange(-HALF + spacing / 2, HALF, spacing, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), spacing**2


def cell_probabilities(density):
    x, area = midpoints()
    p = density.log_prob(x).exp() * area
    cells = round(2 * HALF / CELL)
    return p.view(cells, PER_CELL, cells, PER_CELL).sum((1, 3))


def chi_square_in_sigma(x, probabilities):
    """How far the counts of x are from the probabilities, in standard errors (Wilson-Hilferty)."""
    edges = np.linspace(-HALF, HALF, len(probabilities) + 1)
    counts = np.histogram2d(x[:, 0], x[:, 1], bins=[edges, edges])[0]
    expected = len(x) * probabilities.numpy()
    rich = expected >= 10
    observed = np.append(counts[rich], len(x) - counts[rich].sum())
    expected = np.append(expected[rich], max(len(x) - expected[rich].sum(), 1))
    freedom = len(observed) - 1
    chi_square = ((observed - expected) ** 2 / expected).sum()
    spread = 2 / (9 * freedom)
    return ((chi_square / freedom) ** (1 / 3) - 1 + spread) / math.sqrt(spread)


@pytest.mark.slow
def test_density_integrates_to_one(density):
    assert cell_probabilities(density).sum().item() == pytest.approx(1, abs=1e-6)


def test_entropy_is_the_known_value(name, density):
    assert density.entropy == pytest.approx(ENTROPY[name], abs=1e-3)


@pytest.mark.slow
def test_entropy_is_minus_the_mean_log_density_on_a_grid(density):
    x, area = midpoints()
    entropy = torch.special.entr(density.log_prob(x).exp()).sum().item() * area
    assert density.entropy == pytest.approx(entropy, abs=2e-4)


@pytest.mark.slow
def test_samples_have_the_entropy_and_the_density(density, generator):
    x = density.sample(20_000, generator)
    assert x.dtype == torch.float64
    assert x.shape == (20_000, 2)
    surprise = -density.log_prob(x)
    error = surprise.std() / len(x) ** 0.5
    assert abs(surprise.mean() - density.entropy) <= 4 * error + 1e-6
    assert chi_square_in_sigma(x.numpy(), cell_probabilities(density)) < 4


@pytest.mark.slow
def test_samples_of_the_reference_code_have_the_density(name, density):
    x = BY_NAME[name](20_000, np.random.default_rng(7))
    surprise = -density.log_prob(torch.from_numpy(x))
    error = surprise.std() / len(x) ** 0.5
    assert abs(surprise.mean() - density.entropy) <= 4 * error + 1e-6
    assert chi_square_in_sigma(x, cell_probabilities(density)) < 4


@pytest.mark.slow
def test_the_chi_square_test_detects_a_small_error_of_the_density(density, generator):
    """The yardstick of the two tests above: 5 % wider is seen."""
    x = 1.05 * density.sample(20_000, generator)
    assert chi_square_in_sigma(x.numpy(), cell_probabilities(density)) > 4


def test_samples_depend_only_on_the_generator(density):
    first, again, other = (
        density.sample(100, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_single_precision_agrees_with_double(density, generator):
    x = density.sample(2000, generator).float()
    single, double = density.log_prob(x), density.log_prob(x.double())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_density_is_finite_and_decreasing_far_from_the_data(name, density, dtype):
    if name == "checkerboard":
        pytest.skip("zero outside its squares")
    x = torch.tensor([[8.0, 8.0], [16.0, 16.0], [40.0, -3.0]], dtype=dtype)
    log_p = density.log_prob(x)
    assert log_p.isfinite().all()
    assert log_p[0] > log_p[1]
    assert log_p[0] < -20


def test_mode_weights_are_the_fractions_of_the_nearest_samples(density, generator):
    if density.modes is None:
        pytest.skip("no distinct modes")
    centres, weights = density.modes
    assert weights.sum().item() == pytest.approx(1)
    nearest = torch.cdist(density.sample(20_000, generator), centres).argmin(1)
    share = nearest.bincount(minlength=len(centres)) / 20_000
    error = (weights * (1 - weights) / 20_000).sqrt()
    assert ((share - weights).abs() < 4 * error).all()


def test_an_empty_batch_has_no_densities(density):
    assert density.log_prob(torch.zeros(0, 2)).shape == (0,)
