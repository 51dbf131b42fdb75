"""Two-sample distances against closed forms, scipy and their null distribution."""

from __future__ import annotations

import math

import pytest
import torch
from repeats import assert_mean, assert_share, normal, seeded
from scipy.stats import wasserstein_distance

from ebmtrain.evaluation.estimators.discrepancies import (
    _gaussian_kernel,
    kernel_discrepancies,
    kernel_lengths,
    random_directions,
    sliced_wasserstein,
)
from ebmtrain.evaluation.estimators.u_statistics import null_quantile, random_signs, unit_signs

LENGTHS = [2.0, 1.0, 0.5, 0.25, 0.125]


def test_wasserstein_in_one_dimension_equals_scipy():
    x, y = normal(300, 1), 1.3 * normal(300, 1, seed=1).exp()
    along = random_directions(7, 1, seeded(2))
    assert along.abs().tolist() == [[1.0]]
    found = float(sliced_wasserstein(x, y, along, unit_signs(300)))
    expected = wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert found == pytest.approx(expected, rel=1e-12)


def test_sliced_wasserstein_is_the_mean_over_directions():
    x, y = normal(200, 3), normal(200, 3, seed=1) * 2 + 1
    along = random_directions(20, 3, seeded(2))
    assert torch.allclose(along.norm(dim=1), torch.ones(20).double())
    lines = [wasserstein_distance((x @ v).numpy(), (y @ v).numpy()) for v in along]
    found = float(sliced_wasserstein(x, y, along, unit_signs(200)))
    assert found == pytest.approx(sum(lines) / 20, rel=1e-12)


def test_directions_are_uniform():
    """E v v' = I / d."""
    v = random_directions(20_000, 3, seeded(0))
    for i in range(3):
        assert_mean(v[:, i], 0.0)
        assert_mean(v[:, i].square(), 1 / 3)


def test_estimates_equal_explicit_sums_over_pairs():
    """Pair by pair, with more than one chunk of pairs."""
    n = 900
    x, y = normal(n, 2), normal(n, 2, seed=1) + 1e6
    x = x + 1e6 + 0.3

    def k(a, b):
        distances = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        return _gaussian_kernel(distances, LENGTHS)

    off = ~torch.eye(n, dtype=torch.bool)
    mmd2 = k(x, x)[off].mean() + k(y, y)[off].mean() - 2 * k(x, y)[off].mean()
    gap = lambda a, b: torch.linalg.vector_norm(a[:, None] - b, dim=2)[off].mean()  # noqa: E731
    energy = 2 * gap(x, y) - gap(x, x) - gap(y, y)
    found = kernel_discrepancies(x, y, LENGTHS, unit_signs(n))[:, 0]
    assert found.tolist() == pytest.approx([float(mmd2), float(energy)], rel=1e-7)


def test_gaussian_kernel_averages_over_lengths():
    r = torch.linspace(0, 5, 40, dtype=torch.float64).view(4, 10)
    expected = sum((-r.square() / (2 * c**2)).exp() for c in LENGTHS) / len(LENGTHS)
    torch.testing.assert_close(_gaussian_kernel(r, LENGTHS), expected)


def test_unbiased_between_gaussians():
    """With 40 points of N(0, 1) and N(m, s^2), in one and in more dimensions."""
    m, s = 0.7, 1.4

    def absolute(mean: float, std: float) -> float:
        """E |N(mean, std^2)|."""
        bell = std * math.sqrt(2 / math.pi) * math.exp(-(mean**2) / (2 * std**2))
        return bell + mean * math.erf(mean / (std * math.sqrt(2)))

    def kernel(d: int, variance: float, distance2: float) -> float:
        """E k of two points whose difference has this variance along each axis."""
        total = 0.0
        for c in LENGTHS:
            wide = c**2 + variance
            total += (c**2 / wide) ** (d / 2) * math.exp(-distance2 / (2 * wide))
        return total / len(LENGTHS)

    for d in (1, 3):
        pairs = [
            (normal(40, d, seed=2 * i), m + s * normal(40, d, seed=2 * i + 1)) for i in range(300)
        ]
        found = torch.cat(
            [kernel_discrepancies(x, y, LENGTHS, unit_signs(40)) for x, y in pairs], 1
        )
        mmd2 = kernel(d, 2, 0) + kernel(d, 2 * s**2, 0) - 2 * kernel(d, 1 + s**2, d * m**2)
        assert_mean(found[0], mmd2)
        if d == 1:
            cross = absolute(m, math.hypot(1, s))
            within = absolute(0, math.sqrt(2)) + absolute(0, s * math.sqrt(2))
            assert_mean(found[1], 2 * cross - within)


def test_a_negative_sign_exchanges_a_pair():
    x, y = normal(50, 2), normal(50, 2, seed=1) + 0.5
    w = random_signs(50, 3, seeded(2))
    along = random_directions(5, 2, seeded(3))
    together = (
        kernel_discrepancies(x, y, LENGTHS, w),
        sliced_wasserstein(x, y, along, w),
    )
    for i in range(3):
        swap = (w[:, i] < 0)[:, None]
        a, b = torch.where(swap, y, x), torch.where(swap, x, y)
        torch.testing.assert_close(
            kernel_discrepancies(a, b, LENGTHS, unit_signs(50))[:, 0], together[0][:, i]
        )
        torch.testing.assert_close(
            sliced_wasserstein(a, b, along, unit_signs(50))[0], together[1][i]
        )


def statistics(x, y, signs) -> torch.Tensor:
    along = random_directions(10, 2, seeded(0))
    pairs = kernel_discrepancies(x, y, LENGTHS, signs)
    return torch.cat([pairs, sliced_wasserstein(x, y, along, signs)[None]])


@pytest.mark.slow
def test_one_in_twenty_null_samples_exceeds_its_floor():
    trials, above, means = 200, torch.zeros(3), []
    for i in range(trials):
        model, holdout, train = (normal(60, 2, seed=3 * i + j) for j in range(3))
        found = statistics(model, holdout, unit_signs(60))[:, 0]
        means.append(found)
        shuffled = statistics(train, holdout, random_signs(60, 60, seeded(i)))
        above += found > torch.tensor([null_quantile(row) for row in shuffled])
    for hits in above.tolist():
        assert_share(int(hits), trials, 0.05)
    assert_mean(torch.stack(means)[:, 0], 0.0)  # without bias
    assert_mean(torch.stack(means)[:, 1], 0.0)


def test_floors_decrease_with_the_number_of_points():
    """As 1/n, and as 1/sqrt(n) for a distance: by 9 and 3 for nine times as many points."""

    def floors(n: int) -> torch.Tensor:
        found = []
        for i in range(6):
            x, y = normal(n, 2, seed=2 * i), normal(n, 2, seed=2 * i + 1)
            found.append(
                [null_quantile(r) for r in statistics(x, y, random_signs(n, 100, seeded(i)))]
            )
        return torch.tensor(found).mean(0)

    ratio = floors(100) / floors(900)
    assert ratio.tolist() == pytest.approx([9, 9, 3], rel=0.25)


def test_kernel_lengths():
    points = torch.tensor([[0.0], [0.0], [3.0]])
    assert kernel_lengths(points) == [3.0, 1.5, 0.75, 0.375, 0.1875]
    mostly_equal = torch.tensor([[0.0]] * 5 + [[3.0]])
    assert kernel_lengths(mostly_equal)[0] == pytest.approx(1.0)  # 5 of 15 distances are 3
    assert kernel_lengths(torch.zeros(4, 2))[0] == 1.0
