"""The laws of nce, cnce and ed, which draw no chains, on E = a ||x||^2 / 2."""

from __future__ import annotations

import math

import pytest
import torch
from quadratic import Quadratic, loss_and_slope
from repeats import assert_mean, normal, seeded

from ebmtrain.methods.conditional_noise_contrastive_estimation import (
    ConditionalNoiseContrastiveEstimation as Conditional,
)
from ebmtrain.methods.energy_discrepancy import EnergyDiscrepancy
from ebmtrain.methods.noise_contrastive_estimation import NoiseContrastiveEstimation as Nce
from ebmtrain.types import Batch

NOISES = pytest.mark.parametrize("noise", ["gaussian", "uniform", "kernel"])


def slopes(method, a: float, d: int, log_z: float | None = None, n: int = 40, batch: int = 250):
    """(dL/da, dL/dlog Z) of n independent batches of N(0, I_d); noise fitted to other, wider
    points."""
    found = []
    for i in range(n):
        energy, generator = Quadratic(a), seeded(i)
        state = method.init(1.3 * normal(100, d, seed=20_000 + i), generator)
        leaves = [energy.a]
        if log_z is not None:
            with torch.no_grad():
                state["log_z_learnt"].fill_(log_z)
            leaves.append(state["log_z_learnt"])
        x = normal(batch, d, seed=10_000 + i)
        loss = method.loss(energy, Batch(x), state, generator).loss
        found.append(torch.stack(torch.autograd.grad(loss, leaves)))
    return torch.stack(found)


# nce


@pytest.mark.slow
@NOISES
@pytest.mark.parametrize("nu", [1, 4])
@pytest.mark.parametrize("d", [1, 2])
def test_nce_is_stationary_at_the_normalised_truth(noise, nu, d):
    """At a = 1 and log Z = d/2 log 2 pi (0.919 in 1-D) both gradients are zero, whatever the noise
    and nu; 0.3 off they point back."""
    truth = d / 2 * math.log(2 * math.pi)
    method = Nce(noise=noise, nu=nu, width=1.2)
    both = slopes(method, 1.0, d, truth)
    assert_mean(both[:, 0], 0)
    assert_mean(both[:, 1], 0)
    for log_z, sign in ((truth + 0.3, 1), (truth - 0.3, -1)):
        off = sign * slopes(method, 1.0, d, log_z)[:, 1]
        assert off.mean() > 4 * off.std() / len(off) ** 0.5
    for a, sign in ((1.3, 1), (0.7, -1)):
        off = sign * slopes(method, a, d, d / 2 * math.log(2 * math.pi / a))[:, 0]
        assert off.mean() > 4 * off.std() / len(off) ** 0.5


@pytest.mark.slow
@NOISES
def test_nce_learns_the_constant(noise):
    """With E = x^2 / 2 held fixed in 1-D, c = -log Z goes to -0.919 by gradient descent: the mean
    of independent runs of 100 steps is there within 4 standard errors."""
    method, learnt = Nce(noise=noise, nu=2), []
    for i in range(12):
        energy, generator = Quadratic(1.0), seeded(i)
        x = normal(150, 1, seed=100 + i)
        state = method.init(x, generator)
        log_z = state["log_z_learnt"]
        assert log_z.is_leaf
        for step in range(100):
            batch = normal(150, 1, seed=1_000 + 100 * i + step)
            loss = method.loss(energy, Batch(batch), state, generator).loss
            log_z.data -= 2 / (1 + step / 5) * torch.autograd.grad(loss, log_z)[0]
        learnt.append(log_z.item())
    assert_mean(torch.tensor(learnt), 0.919)


def test_nce_loss_is_the_formula():
    """At the truth with noise = data's distribution L = log(1 + nu) + nu log(1 + 1 / nu), the
    cross-entropy of labels that nothing tells apart, and accuracy that of a constant."""
    for nu in (1, 4):
        method = Nce(nu=nu)
        energy, x = Quadratic(1.0), normal(50_000, 2)
        state = method.init(x, seeded())
        state["log_z_learnt"].data.fill_(math.log(2 * math.pi))
        out = method.loss(energy, Batch(x), state, seeded(1))
        expected = math.log(1 + nu) + nu * math.log(1 + 1 / nu)
        assert out.loss.item() == pytest.approx(expected, rel=1e-3)
        if nu > 1:
            assert out.metrics["accuracy"].item() == 0.5


# cnce


@pytest.mark.parametrize("sigma", [0.3, 1.5])
@pytest.mark.parametrize("nu", [1, 3])
def test_cnce_is_stationary_at_the_truth(sigma, nu):
    """dL/da is zero at a = 1 for any sigma and nu, and points back at 0.7 and 1.3."""
    method = Conditional(sigma=sigma, nu=nu)
    assert_mean(slopes(method, 1.0, 2)[:, 0], 0)
    for a, sign in ((1.3, 1), (0.7, -1)):
        off = sign * slopes(method, a, 2)[:, 0]
        assert off.mean() > 4 * off.std() / len(off) ** 0.5


def test_cnce_with_little_noise_is_score_matching():
    """2 softplus(E - E') = 2 log 2 - (E' - E) + (E' - E)^2 / 4 + ..., of mean
    2 log 2 + sigma^2 (||s||^2 / 4 - tr d2E / 2): half of score matching, d (a^2 / 2 - a) / 2."""
    sigma, d = 0.05, 3
    method = Conditional(sigma=sigma, nu=50)
    for a in (0.5, 1.0):
        values = torch.tensor(
            [
                loss_and_slope(method, a, normal(400, d, seed=1_000 + i), seed=i)[0]
                for i in range(40)
            ],
            dtype=torch.float64,
        )
        assert_mean((values - 2 * math.log(2)) / sigma**2, d * (a**2 / 2 - a) / 2)


# ed


@pytest.mark.parametrize("t", [0.25, 1.0])
def test_energy_discrepancy_has_its_minimum_at_the_truth(t):
    """w = 0, M = 1024 in 1-D: gradient 0 at a = 1 but for a bias of order 1 / M, negative at
    0.5, positive at 2."""
    method = EnergyDiscrepancy(t=t, m=1024, w=0.0)
    assert_mean(slopes(method, 1.0, 1, n=40, batch=100)[:, 0], 0)
    for a, sign in ((2.0, 1), (0.5, -1)):
        off = sign * slopes(method, a, 1, n=40, batch=100)[:, 0]
        assert off.mean() > 4 * off.std() / len(off) ** 0.5


@pytest.mark.parametrize("m", [1, 4])
def test_energy_discrepancy_of_weight_one_has_no_bias(m):
    """w = 1 is a softmax among the datum and its M copies: stationary at the truth for every M. By
    w = 0.5 the slope at a = 1 is about -0.05 (t = 1)."""
    at_truth = slopes(EnergyDiscrepancy(t=1.0, m=m, w=1.0), 1.0, 1, n=64, batch=4_000)[:, 0]
    assert at_truth.std() / 8 < 0.0015  # a bias of 0.006 would show
    assert_mean(at_truth, 0)


@pytest.mark.parametrize("a", [0.5, 1.0, 2.0])
def test_energy_discrepancy_of_a_quadratic_is_the_closed_form(a):
    """exp(-E) convolved with N(0, t) is exp(-b y^2 / 2) / sqrt(1 + a t), b = a / (1 + a t), and y
    has variance 1 + t: L = a / 2 - (log(1 + a t) + b (1 + t)) / 2 for w = 0 and many M."""
    t = 0.6
    method = EnergyDiscrepancy(t=t, m=2048, w=0.0)
    values = [
        loss_and_slope(method, a, normal(100, 1, seed=1_000 + i), seed=i)[0] for i in range(40)
    ]
    expected = a / 2 - (math.log(1 + a * t) + a / (1 + a * t) * (1 + t)) / 2
    assert_mean(torch.tensor(values, dtype=torch.float64), expected)


def test_energy_discrepancy_is_its_formula():
    """mean_i log(w / M + 1 / M sum_j exp(E(x_i) - E(x_i + sqrt(t) (a_i + b_ij)))), term by term."""
    method = EnergyDiscrepancy(t=0.5, m=3, w=2.0)
    x, energy, generator = normal(5, 2), Quadratic(0.8), seeded(4)
    found = method.loss(energy, Batch(x), {}, seeded(4)).loss.item()
    a = torch.empty_like(x).normal_(generator=generator)
    b = torch.empty(3, 5, 2).double().normal_(generator=generator)
    total = 0.0
    for i in range(5):
        inner = 2.0
        for j in range(3):
            y = x[i] + 0.5**0.5 * (a[i] + b[j, i])
            inner += math.exp(0.4 * (x[i].square().sum() - y.square().sum()).item())
        total += math.log(inner / 3)
    assert found == pytest.approx(total / 5)


@pytest.mark.parametrize("method", [Conditional(), EnergyDiscrepancy()], ids=["cnce", "ed"])
def test_shifting_the_energy_changes_nothing(method):
    x = normal(10, 2)
    results = []
    for c in (0.0, 7.0):
        energy = Quadratic(1.3, c)
        loss = method.loss(energy, Batch(x), {}, seeded()).loss
        results.append((loss.item(), torch.autograd.grad(loss, energy.a)[0].item()))
    assert results[0] == pytest.approx(results[1])


def test_shifting_the_energy_shifts_the_constant_of_nce():
    """E + 7 with log Z - 7 is the same model."""
    x, losses = normal(10, 2), []
    for c in (0.0, 7.0):
        state = Nce().init(x, seeded())
        state["log_z_learnt"].data.fill_(1.0 - c)
        losses.append(Nce().loss(Quadratic(1.3, c), Batch(x), state, seeded()).loss.item())
    assert losses[0] == pytest.approx(losses[1])
