"""Shards: what they divide, and the gradient of shards against that of the whole batch."""

from __future__ import annotations

import pytest
import torch
from repeats import seeded
from test_method_presets import build

from ebmtrain.config.shards import divide
from ebmtrain.errors import ConfigError
from ebmtrain.methods.improved_contrastive_divergence import _nearest_neighbour_entropy
from ebmtrain.models.mlp import MLP
from ebmtrain.score import attached_gradient
from ebmtrain.training.compiled.trace import RandomCalls
from ebmtrain.training.shards import Shards, merge, split
from ebmtrain.types import Batch, method_chains, schema_of

N, V = 24, 4


def gradient(method, energy, x, state, values):
    """Of the loss of these points with these random numbers, and their shapes where None."""
    with RandomCalls(seeded(), values) as draws:
        loss = method.loss(energy, Batch(x), state, draws.generator).loss
    parameters = [*energy.parameters()]
    found = attached_gradient(loss, parameters)
    if found is None:
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        found = torch.cat([g.flatten() for g in grads if g is not None])
    return found, [call.replay(seeded(i)) for i, call in enumerate(draws.calls)]


def part(whole, like, number):
    """The rows of one shard, in the dimension in which the shapes differ."""
    for axis, (all_rows, rows) in enumerate(zip(whole.shape, like.shape, strict=True)):
        if all_rows != rows:
            return whole.narrow(axis, number * rows, rows)
    return whole


def relative_difference(method, dtype) -> float:
    energy = MLP(event_shape=(2,), width=16, fourier_features=4).to(dtype)
    x = torch.randn(N, 2, generator=seeded(1), dtype=torch.float64).to(dtype)
    state = method.init(x, seeded(2))
    _, values = gradient(method, energy, x, state, None)
    whole, _ = gradient(method, energy, x, state, values)
    batch, found = Batch(x), []
    for i in range(V):
        own = Shards(V).part(batch, i).x
        _, shapes = gradient(method, energy, own, state, None)
        pieces = [part(value, like, i) for value, like in zip(values, shapes, strict=True)]
        found.append(gradient(method, energy, own, state, pieces)[0])
    mean = torch.stack(found).mean(0)
    return float((mean - whole).norm() / whole.norm())


EQUAL = ("cd", "cnce", "dsm", "ed", "fd_ssm", "nce", "sm", "ssm")


@pytest.mark.parametrize("name", EQUAL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_shards_with_slices_of_the_noise_of_a_batch_have_its_gradient(name, dtype):
    chain = build("sampler", "mala", jumps=None, adaptation=None)
    options = {"sampler": chain} if name == "cd" else {}
    limit = 1e-12 if dtype == torch.float64 else 1e-4 if name == "fd_ssm" else 5e-6
    if name == "fd_ssm" and dtype == torch.float64:
        limit = 1e-9  # a quotient of differences
    assert relative_difference(build("method", name, **options), dtype) <= limit


def test_statistics_of_pairs_are_those_of_a_shard():
    """docs/scale.md says so."""
    assert relative_difference(build("method", "ksd"), torch.float64) > 1e-3
    x = torch.randn(N, 2, generator=seeded(1), dtype=torch.float64)
    parts = torch.stack([_nearest_neighbour_entropy(own) for own in x.chunk(V)]).mean()
    assert abs(float(parts - _nearest_neighbour_entropy(x))) > 1e-3


@pytest.mark.parametrize(
    ("method", "sampler"),
    [("pcd", "mala"), ("pcd", "tempering"), ("jarzynski", "mala"), ("nce", "mala")],
)
def test_states_of_shards_are_those_of_the_whole(method, sampler):
    """Their shapes too, with which figures and evaluations read a checkpoint."""
    part = build("method", method, sampler=build("sampler", sampler))
    x = torch.randn(40, 2, generator=seeded())
    one = divide(part, V)
    schema = schema_of(one)
    states = [one.init(x, seeded(i)) for i in range(V)]
    joined, whole = merge(states, schema), part.init(x, seeded())
    assert {k: v.shape for k, v in joined.items()} == {k: v.shape for k, v in whole.items()}
    assert (kept := method_chains(joined)) is None or len(kept.chains) % V == 0
    for before, after in zip(states, split(joined, schema, V), strict=True):
        for name in before:
            assert torch.equal(before[name], after[name]) or name not in schema
    if method == "jarzynski":  # the first half teaches
        halves = [state["chains"][: one.walkers] for state in states]
        assert torch.equal(joined["chains"][: part.walkers], torch.cat(halves))


def test_a_count_of_the_shards_is_their_sum():
    schema = schema_of(build("method", "pcd", sampler=build("sampler", "mala")))
    states = [{"restarts": torch.tensor(n)} for n in (3, 4)]
    joined = merge(states, schema)
    assert joined == {"restarts": torch.tensor(7)}
    assert [int(s["restarts"]) for s in split(joined, schema, 2)] == [7, 0]


def test_a_state_that_is_not_declared_is_refused_with_several_shards():
    with pytest.raises(ValueError, match=r"does not declare 'memory': train\.shards=1"):
        split({"memory": torch.zeros(4)}, {}, 2)
    assert split({"memory": torch.zeros(4)}, {}, 1)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("walkers", "method.walkers=1022 is not divisible by train.shards=4: method.walkers=1024"),
        ("moved", "method.moved=1022 is not divisible by train.shards=4"),
        ("moved_measuring", "method.moved_measuring=1022 is not divisible"),
    ],
)
def test_walkers_that_do_not_divide_are_refused(field, message):
    with pytest.raises(ConfigError, match=message):
        divide(build("method", "jarzynski", sampler=build("sampler", "mala"), **{field: 1022}), V)
