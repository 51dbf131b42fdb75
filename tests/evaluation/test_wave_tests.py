"""The fit of a wave, and two-sample tests of waves."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.split import random_split
from ebmtrain.evaluation.estimators.wave_fit import _fit_waves, fit_ragged_waves
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput
from ebmtrain.evaluation.wave_tests import WaveTests, _kuiper_test, _wave_metrics
from ebmtrain.masks import truncate
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Region

CHANCE = 6e-5  # 4 sigma
TURN = 2 * math.pi


def uniform(n: int, low: float, high: float, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(n, dtype=torch.float64, generator=g)


def wave(a: Tensor, f: Tensor, phase: Tensor, length: int, std: float, seed: int = 9) -> Tensor:
    t = torch.arange(length, dtype=torch.float64)
    x = a[:, None] * torch.sin(TURN * f[:, None] * t / length + phase[:, None])
    g = torch.Generator().manual_seed(seed)
    return x + std * torch.randn(x.shape, dtype=torch.float64, generator=g)


def random_waves(n: int, seed: int, *, scale=1.0, faster=0.0, turned=0.0, std=0.2) -> Tensor:
    a, f = scale * uniform(n, 0.5, 1.5, seed), faster + uniform(n, 1, 3, seed + 1)
    # A law of the phase that a turn changes.
    return wave(a, f, turned + uniform(n, 0, 0.7 * TURN, seed + 2), 32, std, seed + 3)


@pytest.mark.parametrize(("length", "slowest", "fastest"), [(16, 0.8, 6), (32, 0.6, 14), (7, 1, 2)])
def test_fit_recovers_the_parameters(length, slowest, fastest):
    n = 300
    a, f = uniform(n, 0.1, 3, 0), uniform(n, slowest, fastest, 1)
    phase = uniform(n, 0, TURN, 2)
    found = _fit_waves(wave(a, f, phase, length, 0.0))
    torch.testing.assert_close(found.frequency, f, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.amplitude, a, rtol=1e-5, atol=0)
    apart = (found.phase - phase + math.pi).remainder(TURN) - math.pi
    assert float(apart.abs().max()) < 1e-5
    assert float(found.residual.max()) < 1e-5


def test_fit_attains_the_cramer_rao_bound():
    """The Cramer-Rao bound (Rife & Boorstyn, 1974) for a real wave: Var f = 6 s^2 / (pi^2 A^2 L),
    Var A = 2 s^2 / L.
    """
    n, length, std, a = 2000, 64, 0.1, 1.3
    f = uniform(n, 5, 20, 0)
    x = wave(torch.full((n,), a, dtype=torch.float64), f, uniform(n, 0, TURN, 1), length, std)
    found = _fit_waves(x)
    room = 4 / math.sqrt(2 * n) + 0.02  # of chance, and of terms in 1 / L that the bound leaves out
    error = math.sqrt(6 / length) * std / (math.pi * a)
    assert float((found.frequency - f).std()) == pytest.approx(error, rel=room)
    assert float((found.amplitude - a).std()) == pytest.approx(std * (2 / length) ** 0.5, rel=room)


def test_residual_has_three_degrees_of_freedom_less():
    """Its mean square is that of the noise, over L - 3 degrees of freedom, to 4 standard errors."""
    n, length, std = 4000, 16, 0.02
    x = wave(uniform(n, 1, 2, 0), uniform(n, 2, 5, 1), uniform(n, 0, TURN, 2), length, std)
    error = math.sqrt(2 / ((length - 3) * n))
    assert float(_fit_waves(x).residual.square().mean()) / std**2 == pytest.approx(1, abs=4 * error)


@pytest.mark.slow
def test_p_values_are_uniform_for_equal_distributions():
    found = [
        _wave_metrics(_fit_waves(random_waves(100, s)), _fit_waves(random_waves(100, s + 500)))
        for s in range(0, 400, 4)
    ]
    for name in ("p_amplitude", "p_frequency", "p_phase", "p_residual"):
        values = [float(f[name]) for f in found]
        assert stats.kstest(values, "uniform").pvalue > CHANCE


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"scale": 1.15}, "p_amplitude"),
        ({"faster": 0.2}, "p_frequency"),
        ({"turned": 0.5}, "p_phase"),
        ({"std": 0.24}, "p_residual"),
    ],
)
def test_only_the_test_of_the_wrong_parameter_rejects(change, name):
    found = _wave_metrics(
        _fit_waves(random_waves(1500, 1, **change)), _fit_waves(random_waves(1500, 50))
    )
    assert float(found[name]) < CHANCE
    others = {"p_amplitude", "p_frequency", "p_phase"} - {name}
    assert all(float(found[other]) > CHANCE for other in others)
    if name != "p_residual":
        assert float(found["wave_distance"]) > 0.05


def test_kuiper_against_explicit_values_and_permutations():
    a, b = torch.tensor([0.1, 0.2, 3.0]), torch.tensor([1.0, 4.0])
    # F_a - F_b: 1/3, 2/3, 1/6, 1/2, 0.
    assert _kuiper_test(a, b).statistic == pytest.approx(2 / 3)
    assert _kuiper_test(b, a).statistic == pytest.approx(2 / 3)
    a, b = uniform(100, 0, TURN, 0), 0.85 * uniform(120, 0, TURN, 1)
    both, g = torch.cat([a, b]), torch.Generator().manual_seed(2)
    n, found = 1000, _kuiper_test(a, b)
    beyond = sum(
        _kuiper_test(mixed[:100], mixed[100:]).statistic >= found.statistic - 1e-12
        for mixed in (both[torch.randperm(220, generator=g)] for _ in range(n))
    )
    share = beyond / n
    assert found.p == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / n) + 0.01)
    assert 0.02 < share < 0.7


def test_kuiper_against_the_table_of_stephens():
    """5 % are above V (sqrt(k) + 0.155 + 0.24 / sqrt(k)) = 1.747 (Stephens, 1970)."""
    order = "a" * 16 + "ba" * 27 + "b" * 16 + "ab" * 6 + "b"  # F_a - F_b from 0 to 43/49 - 27/50
    angles = torch.arange(99, dtype=torch.float64) * TURN / 99
    of_a = torch.tensor([letter == "a" for letter in order])
    found, root = _kuiper_test(angles[of_a], angles[~of_a]), math.sqrt(49 * 50 / 99)
    assert found.statistic == pytest.approx(43 / 49 - 27 / 50)
    assert found.statistic * (root + 0.155 + 0.24 / root) == pytest.approx(1.747, abs=1e-3)
    assert found.p == pytest.approx(0.05, rel=0.01)


def test_kuiper_does_not_depend_on_the_origin():
    a, b = uniform(200, 0, TURN, 0), 0.9 * uniform(300, 0, TURN, 1)
    turned = _kuiper_test((a + 2).remainder(TURN), (b + 2).remainder(TURN))
    assert turned == pytest.approx(_kuiper_test(a, b))
    assert _kuiper_test(a, a) == (0.0, 1.0)


# The evaluation


def evaluate(holdout: Tensor, samples: Tensor, points: int = 300) -> Evaluation:
    dataset = random_split(torch.cat([holdout, holdout]), holdout=0.5, standardize=True, seed=0)
    dataset = Points(dataset.train, holdout, standardization=dataset.standardization)
    u = dataset.standardization.to_standard(samples).float()

    def unused(*_):
        raise AssertionError

    box = torch.zeros(holdout[0].numel())
    inputs = EvaluationInput(
        energy=nn.Identity(), temperature=1.0, region=Region(box, box + 1),
        standardization=dataset.standardization, dataset=dataset, draw=lambda n: u[:n],
        generator=lambda _: torch.Generator(), sampler=Mala(step_size=0.1), method={}, trace=unused,
    )  # fmt: skip
    return WaveTests(every=1, points=points)(inputs)


@pytest.mark.parametrize("channels", [0, 1, 2])
def test_samples_are_compared_in_the_units_of_the_data(channels):
    """0: sequences without an axis of channels."""

    def shaped(x: Tensor) -> Tensor:
        return 100 * (x if not channels else x.view(-1, channels, 32).transpose(1, 2))

    found, warnings = evaluate(shaped(random_waves(800, 1)), shaped(random_waves(800, 70)))
    assert not warnings
    assert all(float(found[f"p_{name}"]) > CHANCE for name in ("amplitude", "frequency", "phase"))
    assert found["residual"] == pytest.approx(20, rel=0.05)
    assert found["residual_data"] == pytest.approx(20, rel=0.05)
    off, _ = evaluate(
        shaped(random_waves(800, 1)), shaped(random_waves(800, 70, faster=0.5, std=0.3))
    )
    assert float(off["p_frequency"]) < CHANCE
    assert off["residual"] == pytest.approx(30, rel=0.05)  # of the samples
    assert off["residual_data"] == pytest.approx(20, rel=0.05)


def test_as_many_held_out_sequences_as_asked_for():
    """At most `points`, chosen at random, and each statistic by scipy."""
    held, samples = random_waves(100, 1), random_waves(100, 70, faster=0.3)
    order = torch.randperm(100, generator=torch.Generator())
    for n in (40, 100, 300):
        found, _ = evaluate(held, samples, points=n)
        real, ours = _fit_waves(held[order[:n]]), _fit_waves(samples[:n].float())
        assert found["residual_data"] == pytest.approx(float(real.residual.median()), rel=1e-5)
        tests = {
            "amplitude": stats.ks_2samp(ours.amplitude, real.amplitude),
            "frequency": stats.ks_2samp(ours.frequency, real.frequency),
            "residual": stats.ks_2samp(ours.residual, real.residual),
        }
        for name, test in tests.items():
            assert found[f"p_{name}"] == pytest.approx(test.pvalue, rel=0.02), name
        statistics = [tests[k].statistic for k in ("amplitude", "frequency")]
        largest = max(*statistics, _kuiper_test(ours.phase, real.phase).statistic)
        assert found["wave_distance"] == pytest.approx(largest, abs=0.011)


def test_the_residual_is_no_part_of_the_distance():
    """Waves of equal parameters and unequal noise, whose residuals do not overlap."""
    found, _ = evaluate(random_waves(300, 1, std=0.01), random_waves(300, 70, std=0.1))
    assert found["p_residual"] < 1e-6  # type: ignore[operator]
    assert found["wave_distance"] < 0.25  # type: ignore[operator]


def test_notices_for_other_shapes_and_nonfinite_samples():
    nothing, warnings = evaluate(torch.rand(40, 2).double(), torch.rand(40, 2))
    assert not nothing
    assert "the data have shape (2,)" in warnings[0]
    broken = random_waves(300, 1)
    broken[7, 3] = math.nan
    nothing, warnings = evaluate(random_waves(300, 1), broken)
    assert not nothing
    assert "1 of 300 samples are not finite" in warnings[0]


# Sequences of different lengths


def ragged(n: int, seed: int, *, std: float = 0.2, faster: float = 0.0) -> Tensor:
    """`random_waves` of 16 to 32 steps, with NaN after them."""
    g = torch.Generator().manual_seed(seed + 9)
    steps = torch.randint(16, 33, (n,), generator=g)
    return truncate(random_waves(n, seed, std=std, faster=faster)[..., None], steps)


def test_each_sequence_is_fitted_on_its_own_steps():
    """The true waves, in periods per longest sequence; a few steps give no wave."""
    n = 200
    a, f, phase = uniform(n, 0.1, 3, 0), uniform(n, 2, 6, 1), uniform(n, 0, TURN, 2)
    steps = torch.arange(n) % 16 + 17
    x = truncate(wave(a, f, phase, 32, 0.0)[..., None], steps).squeeze(2)
    x[3, 4:] = math.nan
    found = fit_ragged_waves(x)
    assert len(found.frequency) == n - 1
    there = torch.arange(n) != 3
    order = steps[there].argsort(stable=True)  # the shortest come first
    torch.testing.assert_close(found.frequency, f[there][order], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.amplitude, a[there][order], rtol=1e-4, atol=0)
    whole = fit_ragged_waves(random_waves(50, 0))
    assert all(map(torch.equal, whole, _fit_waves(random_waves(50, 0))))


def test_samples_of_different_lengths():
    found, warnings = evaluate(ragged(800, 1), ragged(800, 70), points=600)
    assert not warnings
    assert all(float(found[f"p_{name}"]) > CHANCE for name in ("amplitude", "frequency", "phase"))
    assert found["residual"] == pytest.approx(found["residual_data"], rel=0.05)
    off, _ = evaluate(ragged(800, 1), ragged(800, 70, std=0.24), points=600)
    assert float(off["p_residual"]) < CHANCE
    off, _ = evaluate(ragged(800, 1), ragged(800, 70, faster=0.5), points=600)
    assert float(off["p_frequency"]) < CHANCE


def test_a_nonfinite_chain_is_no_short_sequence():
    """Where all sequences are complete, NaN at the end is not an end."""
    broken = random_waves(300, 1)[..., None]
    broken[7, 20:] = math.nan
    nothing, warnings = evaluate(random_waves(300, 1)[..., None], broken)
    assert not nothing
    assert "1 of 300 samples are not finite" in warnings[0]
    short = truncate(torch.randn(300, 32, 1).double(), torch.full((300,), 4))
    nothing, warnings = evaluate(short, short)
    assert not nothing
    assert "5 steps or more; the data have none" in warnings[0]
