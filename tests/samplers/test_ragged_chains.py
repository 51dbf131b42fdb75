"""Chains of sequences of different lengths: the mask stays, and sums are over what is there."""

from __future__ import annotations

import pytest
import torch
from repeats import assert_mean, normal, seeded
from torch import nn

from ebmtrain.masks import fill_zeros, lengths, step_mask, truncate
from ebmtrain.samplers.annealed import Annealed
from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.hmc import Hmc
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.samplers.mala import Mala
from ebmtrain.samplers.underdamped import Underdamped

SAMPLERS = {
    "langevin": Langevin(step_size=0.1),
    "mala": Mala(step_size=1.0),
    "hmc": Hmc(step_size=1.2, n_leapfrog=3),
    "underdamped": Underdamped(step_size=0.5),
    "annealed": Annealed(sampler=Langevin(step_size=0.1), temperature_start=3.0, anneal_steps=4),
}
A, LONG = 1.5, 6


class Present(nn.Module):
    """a / 2 times the sum of x^2 over the steps that are there."""

    def forward(self, x):
        return A / 2 * fill_zeros(x, step_mask(x)).flatten(1).square().sum(1)


def exact_samples(n: int, steps: int, longest: int = LONG):
    return truncate(normal(n, longest, 1) * A**-0.5, torch.full((n,), steps))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("bound", [None, 0.5])
def test_each_sequence_keeps_its_length(name, bound):
    sampler = SAMPLERS[name]
    if bound is not None and name != "annealed":
        from dataclasses import replace

        sampler = replace(sampler, clamp=bound, gradient_clip=bound)
    steps = torch.tensor([1, 6, 3, 2, 5])
    x = truncate(normal(5, LONG, 2), steps)
    end = run_chain(sampler, Present(), x, 12, seeded()).x
    assert lengths(end).tolist() == steps.tolist()
    assert (end.isnan() == x.isnan()).all()
    assert not torch.isclose(end, x).any()


@pytest.mark.parametrize("name", ["mala", "hmc"])
@pytest.mark.parametrize("steps", [1, 2])
def test_acceptance_and_variance_do_not_depend_on_padding(name, steps):
    """1 / a exactly, after coarse steps from exact points, as often accepted as without padding."""
    padded = run_chain(SAMPLERS[name], Present(), exact_samples(20_000, steps), 8, seeded(1))
    plain = run_chain(SAMPLERS[name], Present(), exact_samples(20_000, steps, steps), 8, seeded(2))
    assert 0.2 < float(plain.metrics["acceptance"]) < 0.95
    assert abs(float(padded.metrics["acceptance"] - plain.metrics["acceptance"])) < 0.01
    assert_mean(padded.x[:, :steps].square().mean((1, 2)), 1 / A)


def test_padding_is_not_clamped():
    sampler = Langevin(step_size=1e-6, clamp=100.0)
    assert (
        float(run_chain(sampler, Present(), exact_samples(50, 2), 3, seeded()).metrics["clipped"])
        == 0
    )
