"""Samples that differ from held-out points are named with the cause and an option."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from repeats import normal, seeded

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.evaluation.estimators.modes import find_clusters, weight_error
from ebmtrain.evaluation.protocol import EvaluationInput
from ebmtrain.evaluation.quality import Quality, _cluster_metrics
from ebmtrain.evaluation.verdict import distance_text, verdict
from ebmtrain.models.gaussian import Gaussian
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Region

CLOSE = {
    "energy_distance": 0.004, "energy_distance_floor": 0.003, "mmd2": -1e-5, "mmd2_floor": 1e-3,
    "sliced_wasserstein": 0.08, "sliced_wasserstein_floor": 0.07,
}  # fmt: skip
FAR = {**CLOSE, "energy_distance": 0.09}
MIXED = {"rhat": 1.01, "ess_bulk": 5000.0}


def test_distances_near_their_floors_give_no_warning():
    assert verdict({**CLOSE, **MIXED}, "PersistentContrastiveDivergence", None) == []
    assert verdict({}, "PersistentContrastiveDivergence", None) == []


def test_a_null_distribution_of_one_eigenvalue_gives_no_warning_in_999_of_1000():
    """chi^2_1 - 1 has the 95 % quantile 2.84 and the 99.9 % quantile 9.83."""
    for name in ("energy_distance", "mmd2"):
        assert verdict({name: 9.83, f"{name}_floor": 2.84}, "", None) == []
    assert verdict({"sliced_wasserstein": 1.9, "sliced_wasserstein_floor": 1.0}, "", None) == []


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        (MIXED, "the model has not learnt the data: raise train.steps"),
        ({**MIXED, "kl": 0.3}, "the model has not learnt the data"),
        ({**MIXED, "kl": 0.003}, "the model itself is close to the data, its chains are not"),
        ({"rhat": 1.3, "ess_bulk": 5000.0}, "the chains do not mix"),
        ({"rhat": 1.0, "ess_bulk": 50.0}, "the chains do not mix"),
        ({"chain_acceptance": 0.0}, "the chains do not mix"),
    ],
)
def test_a_distance_beyond_its_floor_is_named_with_its_cause(more, cause):
    (warning,) = verdict({**FAR, **more}, "PersistentContrastiveDivergence", None)
    assert "the energy distance is 30 times its floor" in warning
    assert cause in warning


@pytest.mark.parametrize("name", ["energy_distance", "mmd2", "sliced_wasserstein"])
def test_each_distance_counts(name):
    beyond = {**CLOSE, name: 5 * CLOSE[f"{name}_floor"]}
    (warning,) = verdict(beyond, "", None)
    assert "5 times its floor" in warning


def test_the_closing_line_has_each_distance_beside_its_floor():
    text = distance_text(CLOSE)
    assert text.startswith("energy distance 0.004 (floor 0.003)  MMD^2 -1e-05 (floor 0.001)  ")
    assert distance_text({"nll": 2.0}) == ""


WRONG_WEIGHTS = {**CLOSE, "mode_weight_error": 0.14, "mode_weight_error_se": 0.02}


@pytest.mark.parametrize(
    ("method", "more", "cause"),
    [
        ("DenoisingScoreMatching", MIXED, "does not see the weights of modes that are far apart"),
        ("PersistentContrastiveDivergence", MIXED, "raise train.steps"),
        ("PersistentContrastiveDivergence", {"rhat": 1.5}, "the chains do not move between"),
        ("DenoisingScoreMatching", {"kl": 0.001}, "the chains do not move between the modes"),
    ],
)
def test_wrong_weights_of_modes_are_named_with_their_cause(method, more, cause):
    (warning,) = verdict({**WRONG_WEIGHTS, **more}, method, None)
    assert "differs by 0.14" in warning
    assert cause in warning
    for name, value in (("mode_weight_error", 0.04), ("mode_weight_error_se", 0.04)):
        assert verdict({**WRONG_WEIGHTS, **more, name: value}, method, None) == []


def test_extreme_values_are_named_as_a_cause():
    x = normal(300, 2, seed=0)
    x[7, 0] = 1e6
    data = Points(x[:200], x[200:], standardization=fit_standardization(x, True),
                  row_numbers=torch.arange(300))  # fmt: skip
    _, cause = verdict(FAR, "", data)
    assert "1e+06 (row 8, column 1; half of the column is within" in cause


def two_modes(d: int, weight: float, n: int, seed: int) -> torch.Tensor:
    """Modes 16 standard deviations apart."""
    x = normal(n, d, seed=seed)
    x[torch.rand(n, generator=seeded(seed + 1)) < weight, 0] += 16
    return x


@pytest.mark.parametrize("d", [1, 2, 10, 50])
def test_modes_are_found_in_any_dimension(d):
    real = two_modes(d, 0.3, 2000, seed=0)
    units = fit_standardization(real, True)
    found = find_clusters(units.to_standard(real))
    assert found is not None
    weights = found.weights_of(units.to_standard(real))
    assert weights.tolist() == pytest.approx([0.7, 0.3], abs=4 * (0.21 / 2000) ** 0.5)
    share = found.weights_of(units.to_standard(two_modes(d, 0.44, 2000, seed=5)))
    assert share.tolist() == pytest.approx([0.56, 0.44], abs=4 * (0.25 / 2000) ** 0.5)


@pytest.mark.parametrize("d", [1, 2, 10, 50])
def test_one_mode_is_not_divided(d):
    for seed in range(5):
        assert find_clusters(normal(1000, d, seed=seed)) is None
        assert find_clusters(torch.rand(1000, d, generator=seeded(seed)).double()) is None


def test_the_error_of_weights_is_in_its_standard_error():
    """Over repetitions with equal weights, the largest of two (equal) errors is a normal one."""
    true, n = torch.tensor([0.7, 0.3]).double(), 400
    errors = []
    for seed in range(400):
        drawn = (torch.rand(2, n, generator=seeded(seed)) < 0.3).double().mean(1)
        weights = [torch.stack([1 - share, share]) for share in drawn]
        found = weight_error(*weights, n, n)
        errors.append(found.value / found.error)
    rms = torch.tensor(errors).square().mean().sqrt()
    assert float(rms) == pytest.approx(1, abs=4 / (2 * 400) ** 0.5)
    assert weight_error(true, true, n, n).value == 0


def test_the_error_that_counts_is_the_largest_in_its_standard_error():
    """0.01 of a small mode is more than 0.03 of a large one."""
    true = torch.tensor([0.5, 0.499, 0.001]).double()
    found = weight_error(true, torch.tensor([0.52, 0.469, 0.011]).double(), 1000, 1000)
    assert found.value == pytest.approx(0.01)
    assert found.error == pytest.approx((0.006 * 0.994 * 0.002) ** 0.5)


def test_small_modes_count_alike_in_samples_and_data():
    """Modes of 3 % are not parts of their own: their points are those of the nearest part."""
    centres = torch.tensor([[0.0, 0], [20, 0], [20, 8], [20, -8], [28, 0]]).double()
    weights = torch.tensor([0.85, 0.06, 0.03, 0.03, 0.03])
    for seed in range(3):
        mode = torch.multinomial(weights, 3000, replacement=True, generator=seeded(seed))
        x = centres[mode] + normal(3000, 2, seed=seed) / 2
        found = _cluster_metrics(x[:1000], x[1000:])
        assert len(found["mode_weights_data"]) == 2  # type: ignore[arg-type]
        assert verdict(found, "", None) == []


@pytest.mark.parametrize(("weight", "warns"), [(0.3, False), (0.44, True)])
def test_quality_checks_the_weights_of_modes_that_are_not_known(weight, warns):
    real = two_modes(5, 0.3, 2400, seed=0)
    units = fit_standardization(real, True)
    data = Points(real[:1200], real[1200:], standardization=units)
    u = units.to_standard(real)
    inputs = EvaluationInput(
        energy=Gaussian(event_shape=(5,)), temperature=1.0, region=Region(u.amin(0), u.amax(0)),
        standardization=units, dataset=data, sampler=Mala(step_size=0.1), method={},
        draw=lambda count: units.to_standard(two_modes(5, weight, count, seed=9)),
        trace=lambda *_: None, generator=lambda _: seeded(3),
    )  # fmt: skip
    found = Quality(every=1, points=1000, projections=5, shuffles=50)(inputs).metrics
    assert found["mode_weights_data"] == pytest.approx([0.7, 0.3], abs=0.06)
    said = verdict(found, "DenoisingScoreMatching", replace(data))
    assert any("weights of the modes are wrong" in line for line in said) == warns
