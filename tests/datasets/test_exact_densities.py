"""Each density against another way to compute it."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from scipy.integrate import quad
from scipy.special import log_ndtr, logsumexp

from ebmtrain.datasets.checkerboard import Checkerboard
from ebmtrain.datasets.gaussian_mixture import GaussianMixture, grid_of_gaussians
from ebmtrain.datasets.moons import Moons, _lower, _upper
from ebmtrain.datasets.pinwheel import Pinwheel
from ebmtrain.datasets.quadrature import gauss_legendre, neighbour_groups
from ebmtrain.datasets.rings import Rings
from ebmtrain.datasets.swiss_roll import SwissRoll, _roll
from ebmtrain.datasets.two_spirals import TwoSpirals, _erfcx_series, _spiral


def uniform(count=20_000):
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def log_convolved(x, curve, std):
    """Many equal Gaussians along the curve, by brute force."""
    distance = torch.cdist(x, curve, compute_mode="donot_use_mm_for_euclid_dist")
    log_p = (-0.5 * (distance / std).square()).logsumexp(1)
    return log_p - math.log(len(curve) * 2 * math.pi * std**2)


def points_around(reach, generator):
    return reach * (2 * torch.rand(60, 2, dtype=torch.float64, generator=generator) - 1)


@pytest.mark.parametrize(
    ("density", "curve", "reach"),
    [
        (
            Moons(),
            torch.cat([_upper(math.pi * uniform()), _lower(math.pi * uniform())]),
            5,
        ),
        (SwissRoll(), _roll(math.pi * (1.5 + 3 * uniform())), 5),
        (Rings(radii=[2.0], std=0.3), None, 5),
    ],
    ids=["moons", "swiss roll", "ring"],
)
def test_a_curve_density_is_the_convolution_with_its_noise(density, curve, reach, generator):
    if curve is None:
        t = 2 * math.pi * uniform()
        curve = 2 * torch.stack([t.cos(), t.sin()], 1)
    x = points_around(reach, generator)
    torch.testing.assert_close(
        density.log_prob(x), log_convolved(x, curve, density.std), atol=1e-6, rtol=1e-5
    )


def test_two_spirals_density_is_the_convolution_with_both_noises(generator):
    density = TwoSpirals()
    x = points_around(4, generator)
    curve = _spiral(3 * math.pi * uniform(3000).sqrt())
    axis, weights = gauss_legendre(0, density.jitter, 8)
    parts = []
    for i, j in product(range(8), range(8)):
        shifted = curve + torch.stack([axis[i], axis[j]])
        log_share = (weights[i] * weights[j] / (2 * density.jitter**2)).log()
        parts += [log_convolved(sign * x, shifted, density.std) + log_share for sign in (1, -1)]
    brute = torch.stack(parts).logsumexp(0)
    # 3,000 midpoints put the spiral's end, which far points look at, off by 1e-3 of log p.
    torch.testing.assert_close(density.log_prob(x), brute, atol=2e-3, rtol=1e-3)
    assert (brute > -6).sum() > 15  # and not only where nothing is


def test_two_spirals_kernel_is_a_difference_of_normal_tails():
    density = TwoSpirals()
    gap = torch.linspace(0, 6, 601, dtype=torch.float64)
    low = ((gap - density.jitter / 2) / density.std).numpy()
    high = ((gap + density.jitter / 2) / density.std).numpy()
    expected = logsumexp([log_ndtr(-low), log_ndtr(-high)], axis=0, b=[[1], [-1]])
    expected = torch.from_numpy(expected) - math.log(density.jitter)
    torch.testing.assert_close(density._log_kernel(gap), expected, atol=1e-5, rtol=0)


def test_tail_series_error_is_within_its_bound():
    """exp(z^2) erfc(z) within 3e-6, by its first term left out: 945 / (2 z^2)^5 at z = 5. A
    wrong last term would pass the test above."""
    z = torch.cat([torch.linspace(5, 40, 2_000), torch.tensor([1e3, 1e6])]).double()
    truth = torch.special.erfcx(z)
    error = (_erfcx_series(z) / truth - 1).abs()
    assert (error < 945 / (2 * z.square()) ** 5 + 1e-14).all()
    assert error.max() < 3.1e-6


def test_two_spirals_need_only_neighbouring_nodes(generator):
    density = TwoSpirals()
    x = 8 * torch.rand(3000, 2, dtype=torch.float64, generator=generator) - 2
    x[0] = math.nan
    together = density.log_prob(x)
    alone = torch.cat([density.log_prob(part) for part in x.split(300)])
    assert together[0].isnan()
    torch.testing.assert_close(together[1:], alone[1:], atol=1e-7, rtol=0)
    assert not torch.equal(together[1:], alone[1:])  # else neighbours were never looked for


def test_omitted_nodes_are_negligible(generator):
    """Below exp(-24.5) of the largest kernel, at every point of its group, for a smear that is
    wider than the Gaussian."""
    density = TwoSpirals(std=0.05, jitter=0.5)
    x = 8 * torch.rand(1000, 2, dtype=torch.float64, generator=generator) - 4
    nodes, _ = density._nodes
    extent, left_out = density.jitter / math.sqrt(2), 0
    for rows, kept in neighbour_groups(x, nodes, std=density.std, extent=extent):
        log_k = density._log_kernel(x[rows][:, None] - nodes).sum(2)
        others = torch.ones(len(nodes), dtype=torch.bool).index_fill(0, kept, False)
        left_out += int(others.sum())
        assert (log_k[:, others] < log_k.amax(1, keepdim=True) - 24.5).all()
    assert left_out > 0


def test_pinwheel_is_exact_where_arms_overlap():
    """Against the definition: f is found on a fine circle, not by Newton's method."""
    density = Pinwheel(arms=3)
    for x in ([0.3, -0.4], [1.0, 1.2], [-2.0, 0.7], [0.01, 0.0]):
        rho = math.hypot(*x) / 2
        phi = torch.linspace(-math.pi, math.pi, 400_001, dtype=torch.float64)
        r, s = rho * phi.cos(), rho * phi.sin()
        total = 0.0
        for k in range(3):
            turn = phi - 2 * math.pi * k / 3 - 0.25 * r.exp() - math.atan2(x[1], x[0])
            wound = (turn / (2 * math.pi)).floor().diff().nonzero()[:, 0]
            weight = -0.5 * (((r - 1) / 0.3) ** 2 + (s / 0.1) ** 2)
            jacobian = 4 * (1 + 0.25 * s * r.exp())
            total += float((weight.exp() / jacobian)[wound].sum())
        expected = math.log(total / (3 * 2 * math.pi * 0.3 * 0.1))
        found = density.log_prob(torch.tensor([x], dtype=torch.float64)).item()
        assert found == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_entropy_of_one_gaussian_is_exact(dimensions):
    one = GaussianMixture(centres=[[1.0] * dimensions], std=0.7)
    exact = dimensions * 0.5 * math.log(2 * math.pi * math.e * 0.49)
    assert one.entropy == pytest.approx(exact, abs=1e-9)


def test_entropy_of_distant_gaussians_of_unequal_weight_is_exact():
    two = GaussianMixture(centres=[[-9.0], [9.0]], std=1.0, weights=[1, 4])
    weights = -0.2 * math.log(0.2) - 0.8 * math.log(0.8)
    assert two.entropy == pytest.approx(weights + 0.5 * math.log(2 * math.pi * math.e), abs=1e-6)


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0, 4.0])
def test_entropy_of_overlapping_gaussians_is_the_integral(distance):
    two = GaussianMixture(centres=[[0.0], [distance]], std=1.0, weights=[0.3, 0.7])

    def integrand(x):
        log_p = two.log_prob(torch.tensor([[x]], dtype=torch.float64)).item()
        return -math.exp(log_p) * log_p

    assert two.entropy == pytest.approx(quad(integrand, -12, 12 + distance)[0], abs=1e-3)


def test_a_mode_of_weight_zero_is_never_sampled(generator):
    two = GaussianMixture(centres=[[0.0, 0.0], [50.0, 0.0]], std=1.0, weights=[1, 0])
    assert two.sample(1000, generator)[:, 0].max() < 25
    assert two.entropy == pytest.approx(math.log(2 * math.pi * math.e), abs=1e-6)


def test_an_even_grid_is_centred():
    centres = grid_of_gaussians(per_side=4, spacing=1.0, std=0.1).modes.centres
    assert len(centres) == 16
    torch.testing.assert_close(centres.mean(0), torch.zeros(2, dtype=torch.float64))
    assert centres.max() == 1.5


def test_an_odd_checkerboard_has_one_more_square():
    board = Checkerboard(squares=3, side=1.0)
    assert board.entropy == pytest.approx(math.log(5))
    inside = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.4, 1.4], [1.6, 1.6]])
    assert board.log_prob(inside).exp().tolist() == pytest.approx([0.2, 0, 0.2, 0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GaussianMixture(centres=[], std=1.0), "centres"),
        (lambda: GaussianMixture(centres=[[0.0], [1.0, 2.0]], std=1.0), "equal length"),
        (
            lambda: GaussianMixture(centres=[[0.0]], std=1.0, weights=[1, 1]),
            "weights of 2 modes",
        ),
        (lambda: GaussianMixture(centres=[[0.0]], std=1.0, weights=[-1]), "-1"),
        (lambda: GaussianMixture(centres=[[0.0]], std=1.0, weights=[0]), "positive sum"),
        (lambda: GaussianMixture(centres=[[0.0]], std=1.0, weights=[math.nan]), "nan"),
        (lambda: Rings(radii=[], std=1.0), "radii"),
        (lambda: Rings(radii=[1.0, -2.0], std=1.0), "-2"),
    ],
)
def test_impossible_shapes_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
