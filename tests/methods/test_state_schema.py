"""Every tensor of a method's state is declared as one of each rank or as a replicated one."""

from __future__ import annotations

import pytest
import torch
from repeats import seeded
from test_method_presets import build, names

from ebmtrain.methods.jarzynski import _leaves_target_invariant
from ebmtrain.types import Placement, method_chains, schema_of


def method_states():
    for sampler in names("sampler"):
        for method in names("method"):
            chain = build("sampler", sampler)
            if method != "jarzynski" or _leaves_target_invariant(chain):
                yield pytest.param(method, chain, id=f"{method}-{sampler}")


@pytest.mark.parametrize(("method", "sampler"), list(method_states()))
def test_init_returns_what_the_method_declares(method, sampler):
    """And what is of each rank has a row for each chain, or counts their restarts."""
    part = build("method", method, sampler=sampler)
    state = part.init(torch.randn(6, 2, generator=seeded()), seeded(1))
    schema = schema_of(part)
    assert set(schema) == set(state)
    of_chains = {name for name, where in schema.items() if where is not Placement.REPLICATED}
    kept = method_chains(state)
    replicas = {"replicas"} & set(state)  # of tempering
    if kept is None:
        assert of_chains == replicas
    else:
        rows = {name for name, value in state.items() if value.shape[:1] == (len(kept.chains),)}
        assert of_chains == rows | replicas | (set() if kept.restarts is None else {"restarts"})


@pytest.mark.parametrize("noise", ["gaussian", "uniform", "kernel"])
def test_fitted_noise_is_replicated(noise):
    part = build("method", "nce", noise=noise)
    assert set(part.init(torch.randn(6, 2, generator=seeded()), seeded())) == set(schema_of(part))
    assert set(schema_of(part).values()) == {Placement.REPLICATED}


def test_a_method_without_a_declaration_has_no_state():
    class Stateless:
        def init(self, x, generator):
            return {}

    assert schema_of(Stateless()) == {}
    assert method_chains({}) is None
