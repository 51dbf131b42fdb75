"""Parallel tempering: exact for the cold chains, and wells get their right weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from exact_energies import Quadratic, Quartic
from repeats import assert_mean, seeded

from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.chain import init_adaptation, run_chain
from ebmtrain.samplers.hmc import Hmc
from ebmtrain.samplers.mala import Mala
from ebmtrain.samplers.tempering import Tempering, exchange

A = 1.5
TEMPERING = Tempering(
    sampler=Mala(step_size=0.4, temperature=0.5), hottest=4.0, levels=3, replicas=500
)


def test_temperatures_are_geometric():
    assert TEMPERING.temperatures == pytest.approx([0.5, 0.5 * 8**0.5, 4.0])


def two_wells(x):
    """Wells of variance 0.25 at -3 and 3 in the first coordinate, weights 0.2 and 0.8."""
    centres = torch.tensor([[-3.0, 0.0], [3.0, 0.0]], dtype=x.dtype)
    squared = (x[:, None] - centres).square().sum(2)
    return -torch.logsumexp(torch.tensor([0.2, 0.8]).log().to(x) - squared / 0.5, 1)


@pytest.mark.parametrize("sampler", [Mala(step_size=0.5), Hmc(step_size=0.7, n_leapfrog=3)],
                         ids=["mala", "hmc"])  # fmt: skip
@pytest.mark.parametrize("batch", [700, 4000], ids=["fewer than replicas", "more than replicas"])
def test_the_target_is_stationary(sampler, batch):
    """From exact points at every level: each level keeps its variance T_r / a."""
    energy = Quadratic(A)
    tempering = Tempering(
        sampler=replace(sampler, temperature=0.5), hottest=4.0, levels=3, replicas=2000
    )
    x = energy.draw(batch, seeded(1), 0.5)
    adaptation_state = init_adaptation(tempering, x)
    hot = [energy.draw(2000, seeded(2 + r), t) for r, t in enumerate(tempering.temperatures[1:])]
    run = run_chain(
        tempering, energy, x, 15, seeded(5), adaptation_state | {"replicas": torch.stack(hot)}
    )
    assert 0.1 < run.metrics["swapped"] < 0.95
    assert 0.2 < run.metrics["acceptance"] < 0.98
    for points, t in zip(
        [run.x, *run.adaptation_state["replicas"]], tempering.temperatures, strict=True
    ):
        assert_mean(points.square().mean(1), t / A)


def test_a_step_reports_the_cold_chains_and_all_pairs_of_levels(monkeypatch):
    """Levels of very different acceptance, and pairs with very different rates of exchange."""
    rates = []

    def recorded(*arguments):
        *states, rate = exchange(*arguments)
        rates.append(rate)
        return *states, rate

    monkeypatch.setattr("ebmtrain.samplers.tempering.exchange", recorded)
    tempering = replace(TEMPERING, sampler=Mala(step_size=1.2, temperature=0.5), hottest=50.0)
    x = Quadratic(A).draw(500, seeded(1), 0.5)
    state = tempering.init(Quadratic(A), x)
    kernel = tempering.adaptation.apply(tempering, tempering.adaptation.start(tempering, x))
    state, info = kernel.step(Quadratic(A), state, seeded(2))
    cold, _, hottest = state.acceptances
    assert info.acceptance.mean() == cold
    assert abs(cold - hottest) > 0.1
    assert len(rates) == 2
    assert abs(rates[0] - rates[1]) > 0.02
    torch.testing.assert_close(info.swapped, torch.stack(rates).mean().expand(500))


@pytest.mark.slow
def test_wells_have_their_exact_weights():
    """All chains begin in the lighter well: tempering finds the heavier, MALA alone never does."""
    mala = Mala(step_size=0.15)
    tempering = Tempering(sampler=mala, hottest=30.0, levels=6, replicas=500)
    x = torch.randn(500, 2, generator=seeded(1), dtype=torch.float64) * 0.5
    x[:, 0] -= 3
    alone = run_chain(mala, two_wells, x, 400, seeded(2)).x
    assert (alone[:, 0] > 0).double().mean() < 0.02
    adaptation_state, shares = init_adaptation(tempering, x), []
    x, adaptation_state, *_ = run_chain(tempering, two_wells, x, 300, seeded(3), adaptation_state)
    for i in range(8):
        x, adaptation_state, *_ = run_chain(
            tempering, two_wells, x, 60, seeded(4 + i), adaptation_state
        )
        shares.append((x[:, 0] > 0).double().mean())
    assert_mean(torch.stack(shares), 0.8)
    assert torch.stack(shares).std() < 0.06  # else the law above holds for anything


def test_an_exchange_moves_points_with_their_caches():
    energy = Quadratic(A)
    mala = Mala(step_size=0.1)
    x, y = energy.draw(300, seeded(1), 0.3), energy.draw(200, seeded(2), 3.0)
    cold, hot, rate = exchange(mala.init(energy, x), mala.init(energy, y), 0.5, seeded(3))
    both = torch.cat([cold.x, hot.x])
    assert torch.equal(both.sort(0).values, torch.cat([x, y]).sort(0).values)
    assert 0.05 < (~torch.isin(cold.x, x)).double().mean() < 0.6  # some moved, some stayed
    assert 0 < rate < 1
    for state in (cold, hot):
        assert torch.allclose(state.energy, energy(state.x))
        assert torch.allclose(state.gradient, A * state.x)


@pytest.mark.slow
@pytest.mark.parametrize(("n_cold", "n_hot"), [(5, 3), (3, 5), (4, 4)])
def test_an_exchange_pairs_rows_at_random(n_cold, n_hot):
    """Always accepted: each row of the larger level moves with probability n / N, n the smaller
    size, and each pair of rows meets with 1 / N. Fixed pairs would always leave some rows out."""
    x, y = (torch.arange(n, dtype=torch.float64)[:, None] for n in (n_cold, n_hot))
    mala, generator, found = Mala(step_size=0.1), seeded(), []
    energy = Quadratic(0.0)
    for _ in range(2_000):
        after, _, rate = exchange(mala.init(energy, x), mala.init(energy, 10 + y), 0.5, generator)
        assert rate == 1
        found.append(after.x == 10 + y.T)  # (cold rows, hot rows): who met whom
    met = torch.stack(found).double()
    assert (met.sum((1, 2)) == min(n_cold, n_hot)).all()
    for pair in met.flatten(1).T:
        assert_mean(pair, 1 / max(n_cold, n_hot))


def test_hot_chains_persist_and_each_level_adapts_its_step_size():
    tempering = replace(
        TEMPERING, sampler=Mala(step_size=0.4, adaptation=StepSizeAdaptation(target=0.574))
    )
    energy = Quadratic(A)
    x = energy.draw(300, seeded(1))
    adaptation_state = init_adaptation(tempering, x)
    assert set(adaptation_state) == {
        "step_size", "updates", "hot_step_size", "hot_updates", "replicas"
    }  # fmt: skip
    for i in range(60):
        _, adaptation_state, metrics, _ = run_chain(
            tempering, energy, x, 3, seeded(i), adaptation_state
        )
    assert adaptation_state["replicas"].shape == (2, 500, 2)
    assert metrics["step_size"] == adaptation_state["step_size"]
    sizes = [adaptation_state["step_size"].item(), *adaptation_state["hot_step_size"].tolist()]
    # MALA on a quadratic needs the same step at any temperature; all moved off 0.4 and agree.
    assert sizes[0] > 0.45
    assert max(sizes) / min(sizes) < 1.2
    spread = adaptation_state["replicas"].square().mean((1, 2))
    assert spread[1] > 1.5 * spread[0]


def test_each_level_adapts_to_its_own_acceptance():
    """Of x^4 / 4 the scale is T^(1/4), so the step that MALA needs falls as T^(-1/2): times T^(1/2)
    all levels agree."""
    inner = Mala(step_size=0.4, adaptation=StepSizeAdaptation(target=0.574, rate=0.5))
    tempering = replace(TEMPERING, sampler=inner, hottest=16.0)
    x = torch.randn(500, 2, generator=seeded(1), dtype=torch.float64)
    adaptation_state = init_adaptation(tempering, x)
    for i in range(80):
        x, adaptation_state, *_ = run_chain(tempering, Quartic(), x, 3, seeded(i), adaptation_state)
    sizes = torch.cat([adaptation_state["step_size"][None], adaptation_state["hot_step_size"]])
    scaled = sizes * torch.tensor(tempering.temperatures).sqrt()
    assert scaled.max() / scaled.min() < 1.2


def test_exchanges_are_periodic():
    tempering, energy, generator = replace(TEMPERING, swap_every=3), Quadratic(A), seeded()
    state, swaps = tempering.init(energy, energy.draw(50, seeded(1))), []
    for _ in range(7):
        state, info = tempering.step(energy, state, generator)
        swaps.append(info.swapped is not None)
    assert swaps == [False, False, True, False, False, True, False]


@pytest.mark.parametrize("change", [{"levels": 1}, {"hottest": 0.5}])
def test_fewer_than_two_temperatures_are_refused(change):
    with pytest.raises(ValueError, match="tempering needs 2 levels"):
        replace(TEMPERING, **change)
