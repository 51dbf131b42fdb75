"""The laws of the unadjusted Langevin algorithm on E = a ||x||^2 / 2."""

from __future__ import annotations

import pytest
import torch
from exact_energies import Quadratic
from repeats import assert_mean, seeded

from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.langevin import Langevin


@pytest.mark.parametrize(
    ("a", "eta", "temperature"), [(1.0, 0.5, 1.0), (4.0, 0.125, 1.0), (2.0, 0.4, 0.3)]
)
def test_stationary_variance(a, eta, temperature):
    """T / (a (1 - eta a / 2)): at eta a = 0.5 a third too wide. 20,000 chains from 0, each point's
    mean square one value; (1 - eta a)^100 of the start is left."""
    energy, sampler = Quadratic(a), Langevin(step_size=eta, temperature=temperature)
    x = run_chain(sampler, energy, torch.zeros(20_000, 2, dtype=torch.float64), 50, seeded()).x
    assert_mean(x.square().mean(1), temperature / (a * (1 - eta * a / 2)))
    assert_mean(x.mean(1), 0)
    assert_mean(x.prod(1), 0)  # the coordinates' noises are independent


def test_temperature_zero_is_gradient_descent():
    """x_k = (1 - eta a)^k x_0."""
    x = seeded_points()
    out = run_chain(Langevin(step_size=0.1, temperature=0.0), Quadratic(2.0), x, 5, seeded()).x
    torch.testing.assert_close(out, x * 0.8**5)


def test_step_size_decays_geometrically_to_its_final_value():
    """x_k = prod_i (1 - eta_i a) x_0, eta_i = 0.4 (1/16)^(i/4), 0.025 from the fifth step on."""
    sampler = Langevin(step_size=0.4, step_size_end=0.025, anneal_steps=5, temperature=0.0)
    etas = torch.tensor([0.4, 0.2, 0.1, 0.05, 0.025, 0.025], dtype=torch.float64)
    x = seeded_points()
    out = run_chain(sampler, Quadratic(1.0), x, 6, seeded()).x
    torch.testing.assert_close(out, x * (1 - etas).prod())


def test_gradient_clip_bounds_the_drift_and_is_reported():
    """Beyond ||dE|| = limit the drift is eta * limit long and points the same way."""
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    sampler = Langevin(step_size=0.1, temperature=0.0, gradient_clip=1.0)
    chain = run_chain(sampler, Quadratic(1.0), x, 1, seeded())
    torch.testing.assert_close(chain.x, torch.tensor([[2.94, 3.92], [0.27, 0.36], [0.0, 0.0]]))
    assert chain.metrics["clipped"].item() == pytest.approx(1 / 3)


def test_clamp_bounds_every_coordinate_and_is_reported():
    x = torch.tensor([[2.0, -3.0], [0.5, 0.5]])
    sampler = Langevin(step_size=1e-9, temperature=0.0, clamp=1.0)
    chain = run_chain(sampler, Quadratic(1.0), x, 1, seeded())
    torch.testing.assert_close(chain.x, torch.tensor([[1.0, -1.0], [0.5, 0.5]]))
    assert chain.metrics["clipped"].item() == 0.5
    assert "acceptance" not in chain.metrics  # there is no rejection


def seeded_points() -> torch.Tensor:
    return torch.randn(4, 2, generator=seeded(), dtype=torch.float64)
