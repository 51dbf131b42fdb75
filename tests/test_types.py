"""Optional capabilities are found on any class that has them, by structure alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ebmtrain.samplers.chain import adaptation_of, jumps_of, run_chain, temperature_of
from ebmtrain.types import (
    EstimatesLogZ,
    HasConflicts,
    HasPixels,
    Joint,
    Labels,
    Landscape,
    StepInfo,
    labels_of,
    names_of,
    needs_labels,
    takes_ragged,
)


class Bare:
    """A part that offers nothing."""


class Walk:
    """A sampler with `init` and `step` alone."""

    def init(self, energy, x):
        return self.State(x)

    def step(self, energy, state, generator):
        return self.State(state.x + 1), StepInfo()

    class State:
        def __init__(self, x):
            self.x = x


class Rich:
    needs_labels = True
    ragged = True
    temperature = 0.5
    adaptation = None
    jumps = None

    def __init__(self):
        self.names = ("a", "b")
        self.labels = Labels(torch.zeros(2), torch.zeros(1), ("one",))
        self.pixels = (0.0, 1.0)

    def log_z(self, energy, state):
        return torch.zeros(())

    @staticmethod
    def conflicts(config):
        return []


@pytest.mark.parametrize("part", [Bare(), Bare, None], ids=["instance", "class", "none"])
def test_without_a_capability_the_default_holds(part):
    assert temperature_of(part) == 1.0
    assert adaptation_of(part) is None
    assert jumps_of(part) is None
    assert labels_of(part) is None
    assert names_of(part) is None
    assert not needs_labels(part)
    assert not takes_ragged(part)
    assert not isinstance(part, EstimatesLogZ | HasConflicts | HasPixels | Joint | Landscape)


def test_a_capability_needs_no_base_class():
    part = Rich()
    assert temperature_of(part) == 0.5
    assert labels_of(part) is part.labels
    assert names_of(part) == ("a", "b")
    assert isinstance(part, EstimatesLogZ)
    assert isinstance(part, HasPixels)


def test_a_class_declares_for_its_instances():
    """The builder asks the class before anything is built."""
    assert needs_labels(Rich)
    assert takes_ragged(Rich)
    assert isinstance(Rich, HasConflicts)


def test_a_capability_that_is_switched_off_is_not_there():
    class Off(Rich):
        needs_labels = False
        ragged = False

    assert not needs_labels(Off)
    assert not takes_ragged(Off())


def test_a_landscape_has_a_window_and_a_shape():
    class Well(nn.Module):
        def __init__(self, **attributes):
            super().__init__()
            self.__dict__.update(attributes)

    window = ((-1.0, -1.0), (1.0, 1.0))
    assert isinstance(Well(window=window, event_shape=(2,)), Landscape)
    assert not isinstance(Well(event_shape=(2,)), Landscape)


def test_a_sampler_with_nothing_but_init_and_step_runs():
    end = run_chain(Walk(), lambda x: x.sum(1), torch.zeros(4, 2), 3, torch.Generator())  # type: ignore[arg-type]
    assert torch.equal(end.x, torch.full((4, 2), 3.0))
    assert end.adaptation_state == {}
    assert end.metrics == {}
