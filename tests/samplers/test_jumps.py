"""Jumps between modes: exact, between halves, and worth their name."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from repeats import seeded
from torch import Tensor

from ebmtrain.models.gaussian_mixture import GaussianMixture
from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.hmc import Hmc
from ebmtrain.samplers.jumps import DifferentialEvolution
from ebmtrain.samplers.mala import Mala
from ebmtrain.score import energy_and_gradient

WEIGHT = 0.2  # of the left mode


def two_modes(half_distance: float, std: float) -> GaussianMixture:
    centres = [[-half_distance, 0.0], [half_distance, 0.0]]
    return GaussianMixture(centres=centres, weights=[WEIGHT, 1 - WEIGHT], std=std).double()


def draw(energy: GaussianMixture, n: int, generator: torch.Generator) -> Tensor:
    left = torch.rand(n, generator=generator) < WEIGHT
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return energy.centres[(~left).long()] + energy.std * noise


def assert_left(x: Tensor) -> None:
    """The share of chains on the left is WEIGHT, within 4 standard errors of independent ones."""
    share = (x[:, 0] < 0).double().mean().item()
    error = (WEIGHT * (1 - WEIGHT) / len(x)) ** 0.5
    assert abs(share - WEIGHT) < 4 * error, f"{share:.4f} of the chains on the left"


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_mixture_is_stationary(temperature):
    """4,000 exact points after 60 rounds of jumps between modes that no local step connects: still
    a fifth (T = 1; at T other weights w^(1/T)) on the left, and each mode as wide as it was."""
    energy = two_modes(5.0, 0.5)
    x = draw(energy, 4_000, seeded(1))
    if temperature != 1.0:
        w = torch.tensor([WEIGHT, 1 - WEIGHT], dtype=torch.float64) ** (1 / temperature)
        left = torch.rand(len(x), generator=seeded(2)) < w[0] / w.sum()
        noise = torch.randn(x.shape, generator=seeded(3), dtype=x.dtype)
        x = energy.centres[(~left).long()] + energy.std * temperature**0.5 * noise
        expected = (w[0] / w.sum()).item()
    else:
        expected = WEIGHT
    sampler = Mala(step_size=0.02, temperature=temperature, jumps=DifferentialEvolution(every=1))
    chain = run_chain(sampler, energy, x, 60, seeded(4))
    assert 0.1 < chain.metrics["jump_acceptance"].item() < 0.9
    share = (chain.x[:, 0] < 0).double().mean().item()
    assert abs(share - expected) < 4 * (expected * (1 - expected) / len(x)) ** 0.5
    residual = (chain.x - energy.centres[(chain.x[:, 0] > 0).long()]) / energy.std
    squares = residual.square().flatten()
    assert abs(squares.mean().item() - temperature) < 4 * squares.std().item() / len(squares) ** 0.5
    crossed = ((chain.x[:, 0] < 0) != (x[:, 0] < 0)).double().mean()
    assert crossed > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [Mala(step_size=0.15), Hmc(step_size=0.3)])
def test_chains_from_one_mode_find_the_weights(sampler):
    """All 1,000 start on the right; local steps cross now and then, and jumps do the rest. Without
    jumps the left is still all but empty after as many steps."""
    energy = two_modes(1.8, 0.5)
    x = energy.centres[1] + 0.5 * torch.randn(1_000, 2, generator=seeded(1), dtype=torch.float64)
    local = run_chain(sampler, energy, x, 200, seeded(2))
    assert "jump_acceptance" not in local.metrics
    assert (local.x[:, 0] < 0).double().mean() < WEIGHT / 2
    jumping = type(sampler)(step_size=sampler.step_size, jumps=DifferentialEvolution(every=1))
    assert_left(run_chain(jumping, energy, x, 200, seeded(2)).x)


@pytest.mark.parametrize("n", [4, 5, 9])
def test_proposals_are_differences_of_the_other_half(n):
    """With every proposal accepted: x_i' - x_i = x_a - x_b, a and b of the half that i is not in,
    never the same. Distances between powers of two tell all differences apart."""

    def flat(x):
        return x.sum(1) * 0

    x = (2.0 ** torch.arange(n, dtype=torch.float64))[:, None]
    sampler, generator = Mala(step_size=1.0), seeded()
    for _ in range(20):
        state, acceptance = DifferentialEvolution(every=1).move(
            sampler, flat, sampler.init(flat, x), 1.0, generator
        )
        assert acceptance.item() == 1
        old_first, old_second = x[: n // 2, 0], x[n // 2 :, 0]
        new_first, new_second = state.x[: n // 2, 0], state.x[n // 2 :, 0]
        for moved, others in (
            (new_first - old_first, old_second),
            (new_second - old_second, new_first),
        ):
            differences = (others[:, None] - others)[~torch.eye(len(others), dtype=torch.bool)]
            assert torch.isin(moved, differences).all()


@pytest.mark.parametrize("sampler", [Mala(step_size=0.1), Hmc(step_size=0.1)])
def test_caches_are_those_of_the_new_point(sampler):
    energy = two_modes(2.0, 0.5)
    x = draw(energy, 100, seeded(1))
    state, acceptance = DifferentialEvolution(every=1).move(
        sampler, energy, sampler.init(energy, x), 1.0, seeded()
    )
    assert 0.2 < acceptance.item() < 0.9
    stayed = (state.x == x).all(1)
    assert 0.1 < stayed.double().mean() < 0.9
    e, gradient = energy_and_gradient(energy, state.x)
    torch.testing.assert_close(state.energy, e)
    torch.testing.assert_close(state[2], gradient)


@dataclass(frozen=True)
class Counting:
    every: int
    calls: list

    def move(self, sampler, energy, state, temperature, generator):
        self.calls.append(temperature)
        return state, torch.tensor(0.5)


@pytest.mark.parametrize(("chains", "rounds"), [(1, 0), (3, 0), (4, 3), (64, 3)])
def test_jumps_are_periodic_and_need_four_chains(chains, rounds):
    jumps = Counting(3, [])
    sampler = Mala(step_size=0.1, temperature=2.0, jumps=jumps)  # type: ignore[arg-type]
    chain = run_chain(sampler, two_modes(1, 1), torch.zeros(chains, 2).double(), 11, seeded())
    assert jumps.calls == [2.0] * rounds
    assert ("jump_acceptance" in chain.metrics) is bool(rounds)
