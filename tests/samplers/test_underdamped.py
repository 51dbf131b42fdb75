"""BAOAB: exact in the positions of a quadratic energy, where every other splitting is biased."""

from __future__ import annotations

import math

import pytest
import torch
from exact_energies import Quadratic, Quartic
from repeats import assert_mean, seeded

from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.underdamped import Underdamped

A = 1.5


@pytest.mark.parametrize("friction", [0.3, 2.0])
@pytest.mark.parametrize("step_size", [0.3, 1.2])
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_positions_are_exact_at_any_step(step_size, friction, temperature):
    """Variance T / a from exact points after 20 steps; the limit is h < 2 / sqrt(a) = 1.63."""
    sampler = Underdamped(step_size=step_size, friction=friction, temperature=temperature)
    energy = Quadratic(A)
    x = energy.draw(20_000, seeded(1), temperature)
    out = run_chain(sampler, energy, x, 20, seeded(2)).x
    assert_mean(out.square().mean(1), temperature / A)


def test_it_converges_from_a_distant_start():
    sampler = Underdamped(step_size=0.8, friction=1.0)
    x = torch.full((20_000, 2), 2.0, dtype=torch.float64)
    out = run_chain(sampler, Quadratic(A), x, 60, seeded(2)).x
    assert_mean(out.square().mean(1), 1 / A)
    assert_mean(out.mean(1), 0)


def test_velocities_have_the_variance_of_the_temperature():
    """<v^2> = T up to O(h^2), and velocities have turned: c per step forgets the first ones."""
    sampler = Underdamped(step_size=0.05, friction=5.0, temperature=0.5)
    energy = Quadratic(A)
    state = run_chain(sampler, energy, energy.draw(20_000, seeded(1), 0.5), 40, seeded(2)).state
    assert_mean(state.velocity.square().mean(1), 0.5)


def test_velocity_correlation_decays_with_the_friction():
    """Without an energy E[v v'] = T exp(-gamma h) from one step to the next. (The positions of a
    quadratic are exact at any rate.)"""

    def flat(x):
        return 0 * x.sum(1)

    sampler = Underdamped(step_size=0.5, friction=1.2, temperature=0.4)
    one = run_chain(sampler, flat, torch.zeros(20_000, 2).double(), 1, seeded(1)).state
    two = run_chain(sampler, flat, one.x, 1, seeded(2), state=one).state
    assert_mean((one.velocity * two.velocity).mean(1), 0.4 * math.exp(-0.6))


def test_bias_of_a_quartic_is_small():
    """E[x dE] = T: within one percent at h = 0.1, beyond the standard error of 0.4 percent."""
    sampler = Underdamped(step_size=0.1, friction=1.0)
    x = torch.randn(10_000, 2, generator=seeded(1), dtype=torch.float64) * 0.7
    out = run_chain(sampler, Quartic(), x, 150, seeded(2)).x
    found = out.pow(4).mean().item()
    error = out.pow(4).mean(1).std().item() / 100
    assert abs(found - 1) < 0.01 + 4 * error


def test_energy_is_conserved_without_friction():
    """gamma -> 0 is velocity Verlet: E + v^2 / 2 is kept up to O(h^2)."""
    sampler, energy = Underdamped(step_size=0.02, friction=1e-9), Quadratic(A)
    x = energy.draw(50, seeded(1))
    one = run_chain(sampler, energy, x, 1, seeded(2)).state
    many = run_chain(sampler, energy, x, 200, seeded(2)).state
    total = [(energy(s.x) + s.velocity.square().sum(1) / 2) for s in (one, many)]
    assert torch.allclose(*total, rtol=2e-3)
