"""Configurational temperature of chains whose distribution is known, and of energies without
curvature.
"""

from __future__ import annotations

import math

import pytest
import torch
from repeats import normal, seeded

from ebmtrain.evaluation.temperature import (
    Temperature,
    _probe_vectors,
    configurational_temperature,
    temperature_warnings,
)
from ebmtrain.models.mlp import MLP
from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.samplers.mala import Mala
from ebmtrain.score import gradients, score_and_divergence


def bowl(x):
    return 2 * x.flatten(1).square().sum(1)  # a = 4


def quartic(x):
    flat = x.flatten(1)
    return (flat**4).sum(1) / 4 + flat.square().sum(1) / 2


def assert_temperature(fitted: Temperature | None, truth: float) -> None:
    assert fitted is not None
    assert fitted.error < 0.07 * truth
    assert abs(fitted.value - truth) < 4 * fitted.error


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("eta", [0.01, 0.125, 0.25])
def test_langevin_is_hotter_than_its_temperature(eta, temperature):
    """T / (1 - eta a / 2): 4 / 3 at eta a = 0.5, 2 at eta a = 1."""
    sampler = Langevin(step_size=eta, temperature=temperature)
    x = run_chain(sampler, bowl, normal(4_000, 2), round(2 / eta), seeded(1)).x
    assert_temperature(configurational_temperature(bowl, x, seeded(2)), temperature / (1 - 2 * eta))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_mala_has_its_temperature(temperature):
    sampler = Mala(step_size=0.1, temperature=temperature)
    # From within: far out, where the slope is steep, every step would be refused.
    x = run_chain(sampler, quartic, normal(4_000, 3) / 2, 60, seeded(1)).x
    assert_temperature(configurational_temperature(quartic, x, seeded(2)), temperature)


def test_standard_error_matches_repetitions():
    """Exact points of N(0, 1 / 4); the spread of 300 estimates equals their standard errors."""
    found = [
        configurational_temperature(bowl, normal(200, 1, seed=i) / 2, seeded(0)) for i in range(300)
    ]
    z = torch.tensor([(f.value - 1) / f.error for f in found if f is not None])
    assert len(z) == 300
    assert float(z.std()) == pytest.approx(1, abs=4 / math.sqrt(600) + 0.05)  # few points: a little


def test_the_error_is_that_of_a_ratio_of_means():
    """Of E = x^4 / 4 at points of another density: the curvature differs from point to point."""
    x = normal(500, 1)
    found = configurational_temperature(lambda u: u[:, 0] ** 4 / 4, x, seeded(0))
    square, curvature = x[:, 0] ** 6, 3 * x[:, 0] ** 2
    value = float(square.mean() / curvature.mean())
    error = float((square - value * curvature).std() / 500**0.5 / curvature.mean())
    assert found == pytest.approx((value, error), rel=1e-3)


def test_trace_of_a_network():
    """By autograd, exactly in up to eight dimensions and in the mean otherwise."""
    for shape in ((2,), (2, 4), (3, 5)):
        net = (
            MLP(event_shape=shape, width=16, input_scale=1.0, fourier_features=0, base_std=2.0)
            .double()
            .requires_grad_(False)
        )
        x = 2 * normal(400, *shape)
        s, divergence = score_and_divergence(net, x)
        expected = (s.square().flatten(1).sum(1).mean() / -divergence.mean()).detach()
        found = configurational_temperature(net, x, seeded(1))
        assert found is not None
        tolerance = 1e-6 if math.prod(shape) <= 8 else 0.05
        assert found.value == pytest.approx(float(expected), rel=tolerance)


def test_random_directions_estimate_the_trace():
    """Not diagonal: E = u' A A' u / 2, T = 1 for N(0, (A A')^-1)."""
    a = torch.eye(20).double() + normal(20, 20) / 5
    z = normal(4_000, 20, seed=1)
    x = torch.linalg.solve(a.T, z.T).T.reshape(4_000, 4, 5)
    energy = lambda u: (u.flatten(1) @ a).square().sum(1) / 2  # noqa: E731
    assert len(_probe_vectors(x, seeded(2))) == 8
    assert_temperature(configurational_temperature(energy, x, seeded(2)), 1.0)


def test_an_energy_with_a_kink():
    """E = |x| has its second derivative only where it has no first: Laplace distribution, T = 1."""
    u = torch.rand(400_000, 1, generator=seeded(0), dtype=torch.float64) * 2 - 1
    x = -u.sign() * (1 - u.abs()).log()
    energy = lambda v: v.abs().sum(1)  # noqa: E731
    assert_temperature(configurational_temperature(energy, x, seeded(1)), 1.0)


def test_a_network_of_leaky_relu():
    """Samples from an exact chain: second derivatives alone would give a far larger temperature."""
    torch.manual_seed(0)
    net = MLP(
        event_shape=(2,), width=16, depth=1, activation="leaky_relu", input_scale=1.0,
        fourier_features=0, base_std=1.0,
    ).double()  # fmt: skip
    net.requires_grad_(False)
    net.output.weight *= 8
    x = run_chain(Mala(step_size=0.1), net, normal(8_000, 2), 240, seeded(1)).x
    base_alone = gradients(net, x).square().sum(1).mean() / 2
    assert float(base_alone) > 1.5
    assert_temperature(configurational_temperature(net, x, seeded(2)), 1.0)


def test_no_temperature_without_curvature():
    assert configurational_temperature(lambda x: x.sum(1), normal(100, 2), seeded(0)) is None
    assert configurational_temperature(lambda x: -bowl(x), normal(100, 2), seeded(0)) is None
    assert (
        configurational_temperature(lambda x: bowl(x) * math.nan, normal(100, 2), seeded(0)) is None
    )


def test_warning_names_the_remedy():
    (said,) = temperature_warnings(Temperature(1.2, 0.01), 1.0)
    assert said == (
        "the samples have temperature 1.2 +- 0.01, the run is evaluated at 1: lower "
        "sampler.step_size, raise samples.burn_in, or choose sampler=mala"
    )
    for near in (Temperature(1.2, 0.06), Temperature(1.04, 0.001), Temperature(0.97, 0.001)):
        assert temperature_warnings(near, 1.0) == []
    assert temperature_warnings(Temperature(0.5, 0.01), 1.0)
    assert temperature_warnings(Temperature(0.5, 0.01), 0.5) == []
    assert "raise quality.points" in temperature_warnings(None, 1.0)[0]


def test_the_curvature_is_of_fourth_order_in_the_difference():
    """E = x^2 / 2 - cos(k x) / k^2 with waves of length 0.2 standard deviations, at points where
    the curvature 1 + cos(k x) is large: a plain central difference is wrong by 5e-3, the
    extrapolated one by 1e-4."""
    k = 2 * math.pi / 0.2
    grid = torch.linspace(-math.sqrt(3), math.sqrt(3), 40_001).double()
    rows = torch.multinomial((k * grid).cos().exp(), 20_000, True, generator=seeded(0))
    x = grid[rows]

    def energy(u):
        return (u.square() / 2 - (k * u).cos() / k**2).sum(1)

    found = configurational_temperature(energy, x[:, None], seeded(1))
    assert found is not None
    square, curvature = (x + (k * x).sin() / k).square(), 1 + (k * x).cos()
    assert found.value == pytest.approx(float(square.mean() / curvature.mean()), rel=1e-3)
