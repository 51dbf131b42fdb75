"""MALA and HMC are exact: laws that hold at any step size, where both branches run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from exact_energies import Quadratic, Quartic
from repeats import assert_mean, seeded

from ebmtrain.samplers.hmc import Hmc
from ebmtrain.samplers.mala import Mala
from ebmtrain.samplers.metropolis import accept_mask, acceptance_probability
from ebmtrain.score import energy_and_gradient, freeze

MALA = Mala(step_size=1.0)
HMC = Hmc(step_size=1.2, n_leapfrog=3)
A = 1.5


def run(sampler, energy, x, n_steps, seed=0):
    """The states after n_steps, and the mean acceptance of all of them."""
    generator, acceptances = seeded(seed), []
    with freeze(energy):
        state = sampler.init(energy, x)
        for _ in range(n_steps):
            state, info = sampler.step(energy, state, generator)
            acceptances.append(info.acceptance.mean())
    return state, torch.stack(acceptances).mean().item()


CASES = pytest.mark.parametrize(
    "sampler",
    [
        MALA,
        HMC,
        replace(MALA, temperature=0.4, step_size=1.1),
        replace(HMC, temperature=0.4, step_size=0.75),
        replace(MALA, temperature=3.0, step_size=0.9),
        replace(HMC, temperature=3.0, step_size=2.0),
        replace(MALA, gradient_clip=0.7),
        replace(HMC, gradient_clip=0.7),
        replace(MALA, step_size=2.0, step_size_end=0.3, anneal_steps=10),
        replace(HMC, step_size=1.6, step_size_end=0.8, anneal_steps=10),
    ],
    ids=lambda s: f"{type(s).__name__}-T{s.temperature}-clip{s.gradient_clip}-{s.step_size_end}",
)


@CASES
def test_variance_of_a_gaussian(sampler):
    """T / a after 20 coarse steps from exact points, with acceptance between 0.2 and 0.9."""
    energy = Quadratic(A)
    x = energy.draw(20_000, seeded(1), sampler.temperature)
    state, acceptance = run(sampler, energy, x, 20)
    assert 0.2 < acceptance < 0.9
    assert_mean(state.x.square().mean(1), sampler.temperature / A)
    assert_mean(state.x.mean(1), 0)


@CASES
def test_it_converges_from_a_distant_start(sampler):
    """The same variance from one far-away point for all chains: none is stuck or indifferent."""
    energy = Quadratic(A)
    x = torch.full((5_000, 2), 1.5, dtype=torch.float64)
    state, _ = run(sampler, energy, x, 60)
    assert_mean(state.x.square().mean(1), sampler.temperature / A)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler",
    [
        Mala(step_size=0.4),
        Mala(step_size=0.4, temperature=0.5),
        Mala(step_size=0.5, gradient_clip=0.5),
        Hmc(step_size=0.9),
        Hmc(step_size=0.9, gradient_clip=0.5),
    ],
)
def test_virial_of_a_quartic(sampler):
    """E[x dE/dx] = T per coordinate (integration by parts) on a density far from Gaussian."""
    energy = Quartic()
    state, acceptance = run(sampler, energy, torch.zeros(20_000, 2, dtype=torch.float64), 60)
    assert 0.2 < acceptance < 0.9
    assert_mean(state.x.pow(4).mean(1), sampler.temperature)


@CASES
def test_caches_are_of_the_present_point(sampler):
    """The state's energy and gradient are E(x) and the clipped dE(x), though half the proposals
    were rejected."""
    energy = Quadratic(A)
    x = energy.draw(500, seeded(1), sampler.temperature)
    state, acceptance = run(sampler, energy, x, 7)
    assert 0.2 < acceptance < 0.9
    e, gradient = energy_and_gradient(energy, state.x)
    torch.testing.assert_close(state.energy, e)
    norm = gradient.norm(dim=1, keepdim=True)
    limit = sampler.gradient_clip
    cut = norm > limit if limit else torch.zeros_like(norm, dtype=torch.bool)
    torch.testing.assert_close(state[2], torch.where(cut, gradient * (limit or 1) / norm, gradient))
    if limit:
        assert torch.equal(state.clipped.bool(), cut[:, 0])
    else:
        assert state.clipped is None


@pytest.mark.parametrize("sampler", [MALA, HMC])
def test_rejected_chains_stay_bit_identical(sampler):
    energy = Quadratic(A)
    x = energy.draw(500, seeded(1))
    state, _ = run(sampler, energy, x, 1)
    stayed = (state.x == x).all(1)
    assert 0.1 < stayed.double().mean() < 0.9
    assert torch.equal(state.energy[stayed], energy(x)[stayed])
    assert (state.x[~stayed] != x[~stayed]).any(1).all()


@pytest.mark.parametrize("sampler", [Mala(step_size=0.05), Hmc(step_size=0.2)])
def test_a_region_of_nan_is_never_entered(sampler):
    """NaN counts as rejection with probability 0: the chain samples what is left, here the
    half-plane, with the half-normal's mean sqrt(2 / pi)."""

    def energy(x):
        e = x.square().sum(1) / 2
        return torch.where(x[:, 0] > 0, e, torch.nan)

    x = torch.randn(4_000, 2, generator=seeded(1), dtype=torch.float64)
    x[:, 0] = x[:, 0].abs()
    state, acceptance = run(sampler, energy, x, 30)
    assert 0 < acceptance < 1
    assert_mean(state.x[:, 0], (2 / torch.pi) ** 0.5)


def test_acceptance_is_the_fraction_of_accepted_proposals():
    """`accept_mask` is true with `acceptance_probability`; NaN: never. 4 sigma."""
    ratios = torch.tensor([-torch.inf, -2.0, -0.5, 0.0, 3.0, torch.inf, torch.nan])
    n = 20_000
    share = accept_mask(ratios.repeat(n, 1).flatten(), seeded()).view(n, -1).double().mean(0)
    p = acceptance_probability(ratios).double()
    expected = [0, 0.135335, 0.606531, 1, 1, 1, 0]
    torch.testing.assert_close(p, torch.tensor(expected).double(), atol=1e-5, rtol=0)
    assert ((share - p).abs() <= 4 * (p * (1 - p) / n).sqrt()).all()


def test_hmc_jitter_is_uniform_and_independent_per_chain():
    """In a flat energy x' - x = n_leapfrog * eps * p with p ~ N(0, 1), so that
    E[(x' - x)^2] = (n_leapfrog * step_size)^2 (1 + jitter^2 / 3)."""

    def flat(x):
        return x.sum(1) * 0

    sampler = Hmc(step_size=0.5, n_leapfrog=4, jitter=0.9)
    x = torch.zeros(40_000, 1, dtype=torch.float64)
    state, acceptance = run(sampler, flat, x, 1)
    assert acceptance == 1
    assert_mean(state.x[:, 0].square(), (4 * 0.5) ** 2 * (1 + 0.9**2 / 3))


@pytest.mark.parametrize("sampler", [replace(MALA, clamp=0.5), replace(HMC, clamp=0.5)])
def test_clamp_bounds_every_point(sampler):
    energy = Quadratic(A)
    x = energy.draw(200, seeded(1)).clamp(-0.5, 0.5)
    state, acceptance = run(sampler, energy, x, 5)
    assert acceptance > 0
    assert (state.x.abs() <= 0.5).all()


HOLES = {
    "nan": lambda x: (1 - x[:, 0].abs()).sqrt(),  # beyond 1 its gradient is NaN too
    "infinite": lambda x: torch.zeros_like(x[:, 0]).masked_fill(x[:, 0].abs() > 1, torch.inf),
}


@pytest.mark.parametrize("hole", HOLES)
@pytest.mark.parametrize("sampler", [Mala(step_size=0.5), Hmc(step_size=0.7)])
def test_a_chain_of_non_finite_energy_accepts_a_finite_point(sampler, hole):
    def energy(x):
        return A / 2 * x.square().sum(1) + HOLES[hole](x)

    x = torch.full((1000, 2), 1.1, dtype=torch.float64)
    assert not energy(x).isfinite().any()
    state, acceptance = run(sampler, energy, x, 100)
    away = state.x[:, 0].abs() < 1
    assert away.double().mean() > 0.95  # a trajectory ends wherever it meets a NaN
    assert state.energy[away].isfinite().all()
    assert 0.05 < acceptance < 1
