"""R-hat and effective sample sizes of processes for which they are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from ebmtrain.evaluation.estimators.mixing import autocorrelation, ess_growth, mixing


def ar1(rho: float, repeats: int, chains: int, n: int) -> np.ndarray:
    """x' = rho x + sqrt(1 - rho^2) xi, started in equilibrium, (repeats, chains, n)."""
    noise = np.random.default_rng(0).normal(size=(repeats, chains, n)) * np.sqrt(1 - rho**2)
    noise[..., 0] /= np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], noise, axis=2)  # type: ignore[return-value]


def test_ess_of_independent_draws():
    found = mixing(ar1(0.0, 50, 16, 200))
    n = 16 * 200
    assert np.all(found.rhat < 1.02)
    for ess in (found.bulk, found.tail):
        assert abs(ess.mean() / n - 1) < max(4 * ess.std(ddof=1) / np.sqrt(50) / n, 0.03)


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_ess_of_an_autoregression(rho):
    """n (1 - rho) / (1 + rho). The estimate truncates the sum of autocorrelations, which gives a
    bias of some per cent; a wrong factor would be 2.
    """
    found = mixing(ar1(rho, 40, 16, 1000)).bulk
    truth = 16 * 1000 * (1 - rho) / (1 + rho)
    error = found.std(ddof=1) / np.sqrt(40)
    assert abs(found.mean() - truth) < 4 * error + 0.05 * truth


def test_ess_of_antithetic_draws_exceeds_their_number():
    assert np.all(mixing(ar1(-0.5, 5, 16, 1000)).bulk > 2 * 16 * 1000)


def test_rhat_in_equilibrium_depends_on_half_the_chain():
    """sqrt(1 + tau / n): the means of half chains differ by chance only."""
    rho, n = 0.9, 400
    found = mixing(ar1(rho, 20, 64, n)).rhat
    truth = np.sqrt(1 + (1 + rho) / (1 - rho) / (n / 2))
    assert found.mean() == pytest.approx(truth, abs=0.1 * (truth - 1))


def stuck() -> np.ndarray:
    """Two modes at +-5 that none of 20 chains ever leaves, (chains, draws)."""
    centre = np.where(np.arange(20) < 10, -5.0, 5.0)[:, None]
    return centre + ar1(0.5, 1, 20, 200)[0]


def test_chains_stuck_in_different_modes():
    found = mixing(stuck()[None])
    assert found.rhat[0] > 1.5
    assert found.bulk[0] < 100
    correlation = autocorrelation(stuck(), 50)
    assert correlation[0] == pytest.approx(1)
    assert correlation[50] > 0.9
    bulk, _ = ess_growth(stuck(), [50, 100, 200])
    assert bulk[-1] < 1.5 * bulk[0]  # more draws bring nothing


def test_constant_chains_give_nan():
    found = mixing(np.stack([np.zeros((8, 20)), np.arange(8)[:, None] + np.zeros((8, 20))]))
    for numbers in found:
        assert np.isnan(numbers).all()


def test_autocorrelation_of_an_autoregression():
    found = autocorrelation(ar1(0.8, 1, 200, 1000)[0], 10)
    assert found == pytest.approx(0.8 ** np.arange(11), abs=0.02)
    growing, _ = ess_growth(ar1(0.8, 1, 200, 1000)[0], [250, 1000])
    assert growing[1] / growing[0] == pytest.approx(4, rel=0.15)


def test_autocorrelation_is_its_formula():
    """About the mean of all chains: those that each stay in a mode of their own are correlated at
    all lags. The mean of a lag is over the pairs that there are."""
    apart = np.array([[11.0, 9.0, 11.0, 9.0], [-9.0, -11.0, -9.0, -11.0]])
    # Of pairs at distance 1 all products are 100 - 1, at distance 2 they are 100 + 1.
    assert autocorrelation(apart, 2) == pytest.approx([1.0, 99 / 101, 1.0])


@pytest.mark.parametrize("sign", [-1, 1])
def test_tail_is_of_the_outer_twentieth(sign):
    """One stay of 60 among 1000 independent draws beyond all others, in every chain: of the tail
    there is about one independent draw in 60, of the quartiles far more."""
    x = np.random.default_rng(0).uniform(size=(1, 16, 1000))
    for chain, first in enumerate(range(20, 940, 60)):
        x[0, chain, first : first + 60] += 2
    tail = mixing(sign * x).tail[0]
    assert 16 * 1000 / 200 < tail < 16 * 1000 / 20


def test_the_diagnostics_are_of_ranks():
    """A monotonic map of heavy tails keeps all ranks, and so the bulk effective sample size; of the
    values it is another."""
    x = ar1(0.7, 1, 8, 500)
    heavy = np.sinh(4 * x)
    assert mixing(heavy).bulk == pytest.approx(mixing(x).bulk, rel=1e-6)
    assert mixing(heavy).tail == pytest.approx(mixing(x).tail, rel=1e-6)


def test_rhat_sees_shifts_under_heavy_tails_and_different_widths():
    """The means of Cauchy draws do not exist, but half of the chains are one interquartile range to
    the right; and all means are equal where half of the chains are twice as wide."""
    rng, half = np.random.default_rng(1), (np.arange(16) < 8)[:, None]
    shifted = rng.standard_cauchy((16, 400)) + 2 * half
    wide = rng.normal(size=(16, 400)) * np.where(half, 2.0, 1.0)
    assert np.all(mixing(np.stack([shifted, wide])).rhat > 1.05)


def test_rhat_sees_chains_that_all_drift():
    """Equal means of whole chains, different ones of their halves."""
    drift = np.linspace(-1, 1, 400) + np.random.default_rng(2).normal(size=(1, 16, 400))
    assert mixing(drift).rhat[0] > 1.05


def test_tail_is_no_quartile():
    """In every chain a stay of 80 among 2000 draws between the 5 % quantile and the quartile: the
    quartile alone loses draws to it."""
    rng = np.random.default_rng(3)
    x = rng.uniform(size=(1, 16, 2000))
    x[0, :, 900:980] = rng.uniform(0.06, 0.24, size=(16, 80))
    assert mixing(x).tail[0] > 0.8 * 16 * 2000
