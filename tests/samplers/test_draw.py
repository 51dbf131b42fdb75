"""Points drawn for a user: burn-in, thinning, where chains start."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.draw import draw, restore_adaptation, sample_rows
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import StepInfo


@dataclass(frozen=True, kw_only=True)
class Counting:
    """A chain that counts its own steps."""

    def init(self, energy, x):
        return State(x)

    def step(self, energy, state, generator):
        return State(state.x + 1), StepInfo(torch.ones(len(state.x)), torch.zeros(len(state.x)))


@dataclass
class State:
    x: torch.Tensor


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("burn_in", [0, 1, 7, 10, 25])
@pytest.mark.parametrize("thin", [1, 3])
def test_burn_in_and_thinning_determine_the_points(burn_in, thin):
    """From 2 chains: after the burn-in, and then every `thin` steps, until there are enough."""
    x = draw(Counting(), lambda x: x[:, 0], torch.tensor([[0.0], [100.0]]), count=5,
             burn_in=burn_in, thin=thin, generator=generator())  # fmt: skip
    b = burn_in
    assert x[:, 0].tolist() == [b, 100 + b, b + thin, 100 + b + thin, b + 2 * thin]


def test_burn_in_reaches_the_target_from_far_away():
    """N(0, 1) in two dimensions: mean and variance within four standard errors."""
    sampler = Mala(step_size=0.05, adaptation=StepSizeAdaptation(target=0.574))
    x = draw(sampler, lambda x: x.square().sum(1) / 2, torch.full((2000, 2), 3.0), count=2000,
             burn_in=300, thin=1, generator=generator())  # fmt: skip
    assert x.mean(0).abs().max() < 4 / 2000**0.5
    assert (x.var(0) - 1).abs().max() < 4 * (2 / 2000) ** 0.5


@pytest.mark.parametrize(("chains", "most"), [(5, 1), (10, 1), (25, 3)])
def test_starts_are_distinct_if_there_are_enough_points(chains, most):
    points = torch.arange(10.0)[:, None]
    found = sample_rows(points, chains, generator())
    assert found.shape == (chains, 1)
    assert found[:, 0].long().bincount().max() == most
    assert found[:5, 0].tolist() != [0, 1, 2, 3, 4]


def test_adaptation_is_restored_from_the_training_state():
    adaptation = StepSizeAdaptation(target=0.574)
    sampler = Mala(step_size=0.5, adaptation=adaptation)
    x = torch.zeros(3, 2)
    method = {"chains": x, "step_size": torch.tensor(0.125), "updates": torch.tensor(7.0)}
    adaptation_state = restore_adaptation(method, sampler, x)
    assert float(adaptation_state["step_size"]) == 0.125
    assert float(adaptation_state["updates"]) == 7.0
    assert float(restore_adaptation({}, sampler, x)["step_size"]) == 0.5
