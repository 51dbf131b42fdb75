"""The temperature falls geometrically, and the step size with it."""

from __future__ import annotations

import pytest
import torch
from exact_energies import Quadratic
from repeats import assert_mean, seeded

from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.annealed import Annealed
from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.draw import draw
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.samplers.mala import Mala


def flat(x):
    return 0 * x.flatten(1).sum(1)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 0.5])
def test_schedule(exponent):
    """Without an energy, step i moves by a variance of 2 eta_i T_i, eta_i = eta (T_i / T)^a, with
    T_i = 16, 8, 4, 2, 2 for T_start = 16, T = 2, n = 4."""
    sampler = Annealed(
        sampler=Langevin(step_size=0.1, temperature=2.0), temperature_start=16.0, anneal_steps=4,
        exponent=exponent,
    )  # fmt: skip
    x, state = torch.zeros(20_000, 2, dtype=torch.float64), None
    for i, t in enumerate([16.0, 8.0, 4.0, 2.0, 2.0]):
        before = x
        x, _, _, state = run_chain(sampler, flat, x, 1, seeded(i), state=state)
        moved = (x - before).square().mean(1)
        assert_mean(moved, 2 * 0.1 * (t / 2.0) ** exponent * t)


def test_annealing_multiplies_a_decaying_step_size():
    """eta_i = 0.8, 0.4, 0.2 of the sampler, times (T_i / T)^1 = 4, 2, 1."""
    inner = Langevin(step_size=0.8, step_size_end=0.2, anneal_steps=3)
    sampler = Annealed(sampler=inner, temperature_start=4.0, anneal_steps=3, exponent=1.0)
    x, state = torch.zeros(20_000, 2, dtype=torch.float64), None
    for i, (eta, t) in enumerate([(0.8, 4.0), (0.4, 2.0), (0.2, 1.0)]):
        before = x
        x, _, _, state = run_chain(sampler, flat, x, 1, seeded(i), state=state)
        assert_mean((x - before).square().mean(1), 2 * eta * t * t)


def test_a_slow_cooling_ends_in_the_target():
    """From T_start = 8 to T = 0.5 in 200 exact steps: variance T / a."""
    sampler = Annealed(
        sampler=Mala(step_size=0.4, temperature=0.5), temperature_start=8.0, anneal_steps=150
    )
    energy = Quadratic(2.0)
    x = energy.draw(5_000, seeded(1), 8.0)
    out = run_chain(sampler, energy, x, 200, seeded(2)).x
    assert_mean(out.square().mean(1), 0.25)


def test_draw_anneals_over_the_whole_burn_in():
    """Burn-in goes in blocks; the cooling does not restart with each."""
    sampler = Annealed(
        sampler=Langevin(step_size=0.05, temperature=1.0), temperature_start=100.0, anneal_steps=40
    )
    energy = Quadratic(1.0)
    x = draw(
        sampler, energy, energy.draw(4_000, seeded(1), 100.0), count=4_000, burn_in=160, thin=1,
        generator=seeded(2),
    )  # fmt: skip
    # The bias of the last step size 0.05 is 1 / (1 - 0.025).
    assert_mean(x.square().mean(1), 1 / 0.975)


def test_annealing_of_an_adapted_step_size_is_refused():
    inner = Mala(step_size=0.1, adaptation=StepSizeAdaptation(target=0.5))
    with pytest.raises(ValueError, match="adaptation=null"):
        Annealed(sampler=inner, temperature_start=2.0, anneal_steps=3)
    with pytest.raises(ValueError, match="temperature above 0"):
        Annealed(sampler=Langevin(step_size=0.1, temperature=0.0), temperature_start=2.0,
                 anneal_steps=3)  # fmt: skip


def test_hot_chains_are_as_stable_as_cold_ones():
    """On E = x^2 / 2 from the equilibrium at T = 10: Langevin steps of 0.3 keep its variance times
    1 / (1 - 0.15), whatever the temperature is."""
    sampler = Annealed(sampler=Langevin(step_size=0.3), temperature_start=10.0, anneal_steps=1000)
    x = Quadratic(1.0).draw(5_000, seeded(3), 10.0)
    out = run_chain(sampler, Quadratic(1.0), x, 50, seeded(4)).x
    assert out.var() < 10.0 / (1 - 0.15) * 1.05
