"""The buffer of persistent contrastive divergence: which slots are drawn, moved and restarted."""

from __future__ import annotations

import pytest
import torch
from quadratic import Quadratic
from repeats import assert_mean, normal, seeded
from test_contrastive_laws import AddOne

from ebmtrain.methods.persistent_contrastive_divergence import PersistentContrastiveDivergence
from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Batch

SLOTS, BATCH, K = 50, 20, 3


def buffer(amount: float = 0.0, **options):
    """A method whose chains move by `amount` every step, and its first state."""
    method = PersistentContrastiveDivergence(
        sampler=AddOne(amount), k=K, slots=SLOTS, noise_std=1.0, **options
    )
    return method, method.init(normal(BATCH, 2), seeded(1))


def step(method, state, seed: int = 2):
    return method.loss(Quadratic(), Batch(normal(BATCH, 2)), state, seeded(seed))


def test_a_constant_sampler_leaves_the_buffer_bit_identical():
    method, state = buffer()
    after = step(method, state).state
    assert torch.equal(after["chains"], state["chains"])
    assert set(after) == {"chains", "ages", "restarts"}
    assert after["restarts"] == 0


def test_only_the_sampled_slots_change():
    """BATCH of them, so that no slot was drawn twice; each by k, each k steps older; in place."""
    method, state = buffer(1.0)
    before = {name: value.clone() for name, value in state.items()}
    after = step(method, state).state
    moved = (after["chains"] != before["chains"]).all(1)
    assert moved.sum().item() == BATCH
    torch.testing.assert_close(after["chains"][moved], before["chains"][moved] + K)
    assert torch.equal(after["chains"][~moved], before["chains"][~moved])
    assert torch.equal(after["ages"], moved * K)
    assert all(torch.equal(state[name], before[name]) for name in state)  # the old state is whole


def test_negatives_are_the_final_points_of_the_sampled_chains():
    method, state = buffer(1.0)
    out = step(method, state)
    moved = (out.state["chains"] != state["chains"]).all(1)
    expected = Quadratic()(out.state["chains"][moved]).mean()
    torch.testing.assert_close(out.metrics["energy_model"], expected.detach())


def test_slots_are_sampled_uniformly():
    """Of 600 steps each slot takes part in Binomial(600, batch / slots), all within 4.5 sigma."""
    method, state = buffer()
    generator, n = seeded(3), 600
    for _ in range(n):
        state = method.loss(Quadratic(), Batch(normal(BATCH, 2)), state, generator).state
    p = BATCH / SLOTS
    counts = state["ages"] / K
    assert counts.sum().item() == n * BATCH
    assert (counts - n * p).abs().max() < 4.5 * (n * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("reinit", [0.0, 0.05, 0.5, 1.0])
def test_number_of_restarts_is_binomial(reinit):
    """Each drawn chain restarts with probability `reinit`: the total over 200 steps is within 4
    sigma of Binomial(200 batch, p), and the variance per step is Binomial(batch, p)'s within a
    third. Chains start at 1,000 apart from where a restart puts them."""
    method, state = buffer(reinit=reinit)
    generator, counts = seeded(4), []
    far = torch.full_like(state["chains"], 1_000.0)
    for _ in range(200):
        state = state | {"chains": far}
        state = method.loss(Quadratic(), Batch(normal(BATCH, 2)), state, generator).state
        counts.append((state["chains"] != far).all(1).sum())
    n = torch.stack(counts).double()
    variance = BATCH * reinit * (1 - reinit)
    assert abs(n.sum().item() - 200 * BATCH * reinit) <= 4 * (200 * variance) ** 0.5
    assert n.var().item() == pytest.approx(variance, rel=0.4)


def test_ages_count_the_steps_since_the_restart():
    """Chains move by a million every step from N(0, 1), so that their position is their age."""
    method, state = buffer(1e6, reinit=0.3)
    generator = seeded(5)
    for _ in range(40):
        state = method.loss(Quadratic(), Batch(normal(BATCH, 2)), state, generator).state
    age = state["ages"][:, None].expand(-1, 2).double()
    assert torch.equal((state["chains"] / 1e6).round(), age)
    assert (age[:, 0].unique() / K).tolist()[:3] == [1, 2, 3]


def test_ages_are_geometric():
    """Of the drawn chains, P(age = (j + 1) k) = p (1 - p)^j, of mean k / p. 4 standard errors,
    on 40 draws of 20 chains with 25 steps between them."""
    p = 0.4
    method, state = buffer(1e6, reinit=p)
    generator, seen = seeded(6), []
    for i in range(40 * 25):
        before = state["chains"]
        state = method.loss(Quadratic(), Batch(normal(BATCH, 2)), state, generator).state
        if i % 25 == 24:
            seen.append(state["ages"][(state["chains"] != before).all(1)].double() / K)
    age = torch.cat(seen)
    assert len(age) == 40 * BATCH
    assert_mean((age == 1).double(), p)
    assert_mean((age == 2).double(), p * (1 - p))
    assert_mean(age, 1 / p)


def test_initial_and_restarted_chains_have_the_given_width():
    """std noise_std, within 4 standard errors of a Gaussian's variance."""
    method = PersistentContrastiveDivergence(
        sampler=AddOne(0.0), k=1, slots=20_000, noise_std=2.5, reinit=1.0
    )
    x = normal(20_000, 2)
    state = method.init(x, seeded(1))
    after = method.loss(Quadratic(), Batch(x), state, seeded(2)).state
    assert not (after["chains"] == state["chains"]).any()
    for chains in (state["chains"], after["chains"]):
        assert abs(chains.var().item() - 6.25) < 4 * 6.25 * (2 / chains.numel()) ** 0.5


def test_adapted_values_of_the_sampler_are_part_of_the_state():
    sampler = Mala(step_size=0.1, adaptation=StepSizeAdaptation(target=0.5))
    method = PersistentContrastiveDivergence(sampler=sampler, slots=SLOTS)
    state = method.init(normal(BATCH, 2), seeded())
    assert set(state) == {"chains", "ages", "restarts", "step_size", "updates"}
    after = step(method, state).state
    assert set(after) == set(state)
    assert after["updates"].item() == 1
    assert after["step_size"] != state["step_size"]


def test_a_batch_larger_than_the_buffer_is_refused():
    method = PersistentContrastiveDivergence(sampler=AddOne(0.0), slots=10)
    with pytest.raises(ValueError, match=r"batch of 20 .* 10 chain slots"):
        step(method, method.init(normal(BATCH, 2), seeded()))
