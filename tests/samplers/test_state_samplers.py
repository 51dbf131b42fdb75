"""Samplers of binary states have the stationary distribution of a small model, by enumeration."""

from __future__ import annotations

import pytest
import torch
from repeats import assert_mean, seeded
from states import distribution, small_ising, small_rbm

from ebmtrain.samplers.block_gibbs import BlockGibbs
from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.gibbs import Gibbs
from ebmtrain.samplers.gibbs_with_gradients import GibbsWithGradients

SHAPE = (2, 3)
CASES = {
    "block_gibbs": (BlockGibbs(), 1.0),
    "gibbs": (Gibbs(), 1.0),
    "gibbs at T = 2": (Gibbs(temperature=2.0), 2.0),
    "gwg": (GibbsWithGradients(proposals=6), 1.0),
    "gwg at T = 2": (GibbsWithGradients(proposals=6, temperature=2.0), 2.0),
}


class Coloured(torch.nn.Module):
    """Sites 0, 1, 2 interact with 3, 4, 5 alone: each half is updated in one go."""

    colours = (torch.arange(3), torch.arange(3, 6))

    def forward(self, x):
        flat = x.flatten(1)
        return flat[:, :3].sum(1) * (flat[:, 3:] @ torch.tensor([1.0, -1.5, 0.5]).double())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_sweep_of_an_ising_model_leaves_it_invariant(temperature):
    check(Gibbs(temperature=temperature), small_ising(SHAPE), temperature, "noise")


@pytest.mark.parametrize("start", ["model", "noise"])
@pytest.mark.parametrize("case", CASES)
def test_the_stationary_distribution_is_exp_of_minus_the_energy(case, start):
    """Of 4,000 independent chains that start from the model, or from noise: the mean of each state,
    of each product of neighbours and of the energy."""
    sampler, temperature = CASES[case]
    check(sampler, small_rbm(SHAPE), temperature, start)


def test_groups_of_sites_that_do_not_interact_are_updated_together():
    check(Gibbs(), Coloured(), 1.0, "noise")


def check(sampler, energy, temperature: float, start: str) -> None:
    states, p = distribution(energy, SHAPE, temperature)
    rows = torch.multinomial(p, 4000, True, generator=seeded(1))
    first = (
        states[rows] if start == "model" else (torch.rand(4000, *SHAPE, generator=seeded()) < 0.5)
    )
    x = run_chain(sampler, energy, first.double(), 3 if start == "model" else 30, seeded(2)).x
    assert ((x == 0) | (x == 1)).all()
    assert (x != first).flatten(1).any(1).double().mean() > 0.5
    for statistic in (
        *(lambda x, i=i: x.flatten(1)[:, i] for i in range(6)),
        *(lambda x, i=i: x.flatten(1)[:, i] * x.flatten(1)[:, i + 1] for i in range(5)),
        lambda x: energy(x).detach(),
    ):
        assert_mean(statistic(x), float(p @ statistic(states)), sigmas=4.5)


def test_gibbs_with_gradients_rejects():
    """The estimate of first order is not exact, and the kernel is."""
    energy = small_rbm(SHAPE, std=1.5)
    x = torch.zeros(500, *SHAPE).double()
    rate = float(
        run_chain(GibbsWithGradients(proposals=20), energy, x, 3, seeded()).metrics["acceptance"]
    )
    assert 0.2 < rate < 0.95
