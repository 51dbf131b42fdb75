"""KSD and Fisher divergence against closed forms, and their insensitivity to mode weights."""

from __future__ import annotations

import pytest
import torch
from repeats import assert_mean, assert_share, normal, seeded

from ebmtrain.config.instantiate import instantiate_part
from ebmtrain.config.presets import BUILT_IN
from ebmtrain.datasets.gaussian_mixture import GaussianMixture
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.evaluation.estimators.modes import mass_kl
from ebmtrain.evaluation.estimators.stein import (
    fisher_divergence,
    scores,
    stein_discrepancies,
    true_scores,
)
from ebmtrain.evaluation.estimators.u_statistics import null_quantile, random_signs, unit_signs
from ebmtrain.evaluation.quality import _mode_weights

LENGTHS = [1.4, 0.7]
DATASETS = sorted(p.stem for p in (BUILT_IN / "dataset").glob("*.yaml")
                  if "\ndensity:" in p.read_text() and "\nbits:" not in p.read_text())  # fmt: skip


def bowl(x):
    return x.flatten(1).square().sum(1)  # exp(-E / 2) is N(0, I)


def test_ksd_of_a_gaussian():
    """The model is exp(-E / T) = N(0, (T / 2) I): (1 - a)^2 E x'y k(x, y), a = 2 / T."""
    points = [normal(60, 2, seed=i) for i in range(150)]

    def values(temperature: float) -> torch.Tensor:
        found = [stein_discrepancies(x, scores(bowl, x, temperature), LENGTHS, unit_signs(60))
                 for x in points]  # fmt: skip
        return torch.cat(found)

    x, y = normal(400_000, 2, seed=1_000), normal(400_000, 2, seed=1_001)
    square = (x - y).square().sum(1)
    k = sum((1 + square / c**2) ** -0.5 for c in LENGTHS) / 2
    v = float(((x * y).sum(1) * k).mean())
    assert v > 0.05
    assert_mean(values(2.0), 0.0)
    for temperature, a in ((1.0, 2.0), (4.0, 0.5)):
        found = values(temperature)
        assert float(found.mean()) > 10 * float(found.std()) / 150**0.5
        assert_mean(found / v, (1 - a) ** 2)


def test_kernel_is_one_for_equal_points():
    """For two equal points u = ||s||^2 + d / length^2 for each length."""
    x, s = torch.zeros(2, 3).double(), torch.full((2, 3), 2.0).double()
    found = stein_discrepancies(x, s, [2.0, 1.0], unit_signs(2))
    assert float(found) == pytest.approx(12 + 3 * (1 / 4 + 1) / 2)


def test_one_in_twenty_exceeds_its_floor_for_the_true_score():
    trials, above = 300, 0
    for i in range(trials):
        x = normal(60, 2, seed=i)
        w = torch.cat([unit_signs(60), random_signs(60, 100, seeded(i))], 1)
        found = stein_discrepancies(x, -x, LENGTHS, w)
        above += bool(found[0] > null_quantile(found[1:]))
    assert_share(above, trials, 0.05)


def test_ksd_is_at_most_the_fisher_divergence():
    x = normal(600, 2)
    s = -(x - 0.5) / 1.7
    ksd2 = float(stein_discrepancies(x, s, LENGTHS, unit_signs(600)))
    assert 0.1 * fisher_divergence(s, -x) < ksd2 < fisher_divergence(s, -x)


def test_fisher_divergence_of_two_gaussians():
    """x of N(0, 1), model N(m, s^2): (1 - 1 / s^2)^2 + m^2 / s^4 for each axis."""
    m, s = 0.4, 1.3
    each = [fisher_divergence(-(x - m) / s**2, -x) for x in (normal(500, 3, seed=i)
                                                            for i in range(50))]  # fmt: skip
    assert_mean(torch.tensor(each), 3 * ((1 - s**-2) ** 2 + m**2 / s**4))


@pytest.mark.slow
@pytest.mark.parametrize("name", DATASETS)
def test_true_scores_match_finite_differences(name, configured):
    """By central differences, in standardized units."""
    dataset = instantiate_part(configured(f"dataset={name}", "dataset.n_train=50"), "dataset")
    units, truth = dataset.standardization, dataset.truth
    u = units.to_standard(dataset.holdout[:30])
    found = true_scores(dataset, u)
    if name == "checkerboard":
        assert found is None
        return
    assert found is not None
    h = 1e-4  # the density of the pinwheel is solved for, to about 1e-7
    for i in range(2):
        v = h * torch.eye(2, dtype=torch.float64)[i]
        rise = truth.log_prob(units.to_data(u + v)) - truth.log_prob(units.to_data(u - v))
        torch.testing.assert_close(found[:, i], rise / (2 * h), rtol=1e-3, atol=5e-3)


def test_both_are_insensitive_to_weights_of_separated_modes():
    """Data 0.2 / 0.8, model 0.5 / 0.5: the scores agree; only the mode weights differ."""
    far = [[-8.0], [8.0]]
    truth = GaussianMixture(centres=far, std=1.0, weights=[0.2, 0.8])
    model = GaussianMixture(centres=far, std=1.0)
    x = truth.sample(1_000, seeded(0))
    data = Points(x, x, standardization=fit_standardization(x, False), truth=truth)
    s, true = scores(lambda u: -model.log_prob(u), x), true_scores(data, x)
    assert true is not None
    assert fisher_divergence(s, true) < 1e-6
    w = torch.cat([unit_signs(1_000), random_signs(1_000, 50, seeded(1))], 1)
    found = stein_discrepancies(x, s, [1.0], w)
    exact = stein_discrepancies(x, true, [1.0], w)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)
    shares = _mode_weights(model.sample(1_000, seeded(2)), truth.modes)
    assert mass_kl(truth.modes.weights, shares) > 0.1
