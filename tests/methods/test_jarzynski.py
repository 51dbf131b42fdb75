"""The laws of Jarzynski's weights: along any path of energies mean exp(A) is Z on average, and
weighted means are the model's."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from quadratic import Quadratic
from repeats import assert_mean, normal, seeded

from ebmtrain.config.build import build
from ebmtrain.methods.contrast import contrastive_loss
from ebmtrain.methods.jarzynski import Jarzynski
from ebmtrain.models.gaussian import Gaussian
from ebmtrain.runs.launch import run_experiment
from ebmtrain.runs.sampling import resample_chains
from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.annealed import Annealed
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.samplers.mala import Mala
from ebmtrain.samplers.tempering import Tempering
from ebmtrain.types import Batch, MethodChains

MALA = Mala(step_size=0.2)
PATH = (0.6, 0.9, 1.3, 1.8, 2.4)  # of a: too fast for the chains


def last_output(method: Jarzynski, seed: int, d: int = 2):
    """The last outcome of a path of energies that no walker has a say in."""
    generator = seeded(seed)
    x = normal(8, d, seed=seed)
    state = method.init(x, generator)
    for a in PATH:
        out = method.loss(Quadratic(a, c=0.3), Batch(x), state, generator)
        state = out.state
    return out


def build_method(**options) -> Jarzynski:
    return Jarzynski(
        **({"sampler": MALA, "k": 1, "walkers": 40, "moved": 30, "moved_measuring": 20,
            "energy_regularization": 0.0} | options)
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("resample_below", "temperature"), [(0.0, 1.0), (0.7, 0.5), (1.0, 1.0)])
def test_mean_weight_is_the_normaliser(resample_below, temperature):
    """E mean exp(A) = Z = (2 pi T / a)^(d / 2) exp(-c / T) in both groups, and there
    E mean exp(A) ||X||^2 = Z d T / a, over 100 paths, though the chains lag behind the energy."""
    sampler = replace(MALA, temperature=temperature)
    method = build_method(sampler=sampler, resample_below=resample_below)
    z = 2 * math.pi * temperature / PATH[-1] * math.exp(-0.3 / temperature)
    weight, square, plain = [], [], []
    for seed in range(100):
        state = last_output(method, seed).state
        a, squares = state["log_weights"], state["chains"].square().sum(1)
        weight.append(a.exp().view(2, -1).mean(1))
        square.append((a.exp() * squares).view(2, -1).mean(1))
        plain.append(squares.mean())
    for group in (0, 1):
        assert_mean(torch.stack(weight)[:, group], z)
        assert_mean(torch.stack(square)[:, group], z * 2 * temperature / PATH[-1])
    if resample_below == 0:  # without weights it would be another mean
        assert torch.stack(plain).mean() > 1.5 * 2 * temperature / PATH[-1]


def test_log_z_of_another_energy():
    """`log_z` reweights the measuring walkers: E exp(log_z) = Z of the energy it is asked about."""
    method = build_method()
    found = [method.log_z(Quadratic(2.0), last_output(method, i).state).exp() for i in range(50)]
    assert_mean(torch.stack(found), math.pi)


@pytest.mark.slow
def test_training_walkers_are_biased_and_measurement_walkers_are_not():
    """A Gaussian trained by 64 walkers on each side, log Z known: the teachers' own is low by much
    more than its error over 6 runs, that of the others is within 4 standard errors and 0.2."""
    errors = []
    for seed in range(6):
        method = build_method(k=2, walkers=64, moved=64, moved_measuring=64)
        energy = Gaussian(event_shape=(2,), initial_std=1.5).double()
        optimizer, generator = torch.optim.Adam(energy.parameters(), 0.02), seeded(seed)
        state = method.init(normal(1, 2), generator)
        for step in range(100):
            x = normal(64, 2, seed=1_000 * seed + step)
            out = method.loss(energy, Batch(x), state, generator)
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
            state = out.state
        measured = method.log_z(energy, state)
        swapped = {k: v.roll(64, 0) for k, v in state.items()}
        taught = method.log_z(energy, swapped)
        errors.append(torch.stack([taught, measured]) - energy.log_z(1.0).detach())
    taught, measured = torch.stack(errors).T
    assert taught.mean() < -6 * taught.std() / 6**0.5
    assert taught.mean() < -0.1
    assert_mean(measured, 0.0)
    assert measured.abs().mean() < 0.2


def test_the_loss_weights_the_training_walkers():
    """dL/da = mean ||x||^2 / 2 - sum_i w_i ||X_i||^2 / 2 over the first half of the state."""
    method, energy, generator = build_method(resample_below=0.0), Quadratic(1.7), seeded(3)
    x = normal(8, 2)
    state = method.loss(Quadratic(0.6), Batch(x), method.init(x, generator), generator).state
    out = method.loss(energy, Batch(x), state, generator)
    chains, a = (out.state[name][:40] for name in ("chains", "log_weights"))
    halves = (x.square().sum(1) / 2, chains.square().sum(1) / 2)
    expected = halves[0].mean() - (torch.softmax(a, 0) * halves[1]).sum()
    assert torch.softmax(a, 0).max() > 1.5 / 40  # not all alike
    torch.testing.assert_close(torch.autograd.grad(out.loss, energy.a)[0], expected)
    torch.testing.assert_close(out.state["energies"], energy(out.state["chains"]).detach())


def test_weighted_contrast_is_its_formula():
    energy, x, y = Quadratic(0.7, 0.4), normal(5, 2), normal(8, 2, seed=1)
    weights = torch.softmax(normal(8, seed=2), 0).requires_grad_()
    loss, metrics = contrastive_loss(energy, x, y, 0.3, weights)
    a, b = energy(x), energy(y)
    model = (weights.detach() * b).sum()
    squares = a.square().mean() + (weights.detach() * b.square()).sum()
    torch.testing.assert_close(loss, a.mean() - model + 0.3 * squares)
    torch.testing.assert_close(metrics["energy_model"], model.detach())
    loss.backward()
    assert weights.grad is None  # a weight is no way to a smaller loss


def test_metrics_are_those_of_the_training_walkers():
    """Training walkers of unequal weights, measuring ones of equal weights, at the same points."""
    method = build_method(resample_below=0.0)
    state = method.init(normal(8, 2, seed=0), seeded(0))
    points, energy = state["chains"][:40].repeat(2, 1), Quadratic(1.0)
    weights = torch.linspace(-2.0, 2.0, 40)
    equal = weights.exp().mean().log() - 0.7
    state |= {"chains": points, "energies": energy(points).detach(),
              "log_weights": torch.cat([weights, equal.expand(40)])}  # fmt: skip
    metrics = method.loss(energy, Batch(normal(8, 2, seed=1)), state, seeded(1)).metrics
    share = weights.exp().sum() ** 2 / weights.exp().square().sum() / 40
    assert float(metrics["walkers_ess"]) == pytest.approx(float(share), rel=1e-4)
    assert float(metrics["teaching_bias"]) == pytest.approx(0.7, rel=1e-4)


def test_data_noise_is_added_to_the_batch():
    """With far data and noise of variance s^2, E(data) = a (||x||^2 + d s^2) / 2 on average."""
    method = build_method(data_noise=2.0)
    state = method.init(normal(8, 2, seed=0), seeded(0))
    batch, generator = Batch(torch.zeros(20_000, 2)), seeded(1)
    metrics = method.loss(Quadratic(1.0), batch, state, generator).metrics
    # The energies are s^2 chi^2(2) / 2: mean and standard deviation s^2.
    assert abs(float(metrics["energy_data"]) - 4.0) < 4 * 4.0 / 20_000**0.5


def test_measurement_walkers_do_not_affect_the_gradient():
    """Other measuring walkers: the same loss, the same teachers, the same step size learnt."""
    sampler = replace(MALA, adaptation=StepSizeAdaptation(target=0.5))
    method, x, energy = build_method(sampler=sampler), normal(8, 2), Quadratic(1.3)
    state = method.init(x, seeded(1))
    other = {k: v.clone() for k, v in state.items()}
    other["chains"][40:] = 3.0
    one, two = (method.loss(energy, Batch(x), s, seeded(2)) for s in (state, other))
    assert torch.equal(one.loss, two.loss)
    assert torch.equal(one.state["step_size"], two.state["step_size"])
    assert one.state["step_size"] != state["step_size"]
    for name in ("chains", "energies", "log_weights"):
        assert torch.equal(one.state[name][:40], two.state[name][:40]), name
        assert not torch.equal(one.state[name][40:], two.state[name][40:]), name


def test_groups_are_resampled_independently_below_the_threshold():
    """The first group holds one walker that outweighs all: its copies fill the group, with equal
    weights of the same mean. The second has equal weights and stays as it is."""
    method = build_method(resample_below=0.5)
    state = method.init(normal(8, 2), seeded(1))
    walkers = {name: state[name] for name in ("chains", "energies", "log_weights")}
    walkers["log_weights"] = torch.zeros(80, dtype=torch.float64)
    walkers["log_weights"][7] = 50.0
    after, ess = method.resample(walkers, seeded(2))
    assert ess.tolist() == pytest.approx([1 / 40, 1.0])
    assert (after["chains"][:40] == walkers["chains"][7]).all()
    assert (after["energies"][:40] == walkers["energies"][7]).all()
    torch.testing.assert_close(
        after["log_weights"][:40], torch.full((40,), 50 - math.log(40), dtype=torch.float64)
    )
    for name in walkers:
        assert torch.equal(after[name][40:], walkers[name][40:]), name


@pytest.mark.parametrize("moved", [10, 40, 100])
def test_the_given_number_of_walkers_moves(moved):
    """20 of the measuring group; all of a group, and no more, where more are asked for."""
    method = build_method(sampler=Mala(step_size=1e-6), moved=moved, resample_below=0.0)
    x, state = normal(8, 2), build_method().init(normal(8, 2), seeded(1))
    after = method.loss(Quadratic(), Batch(x), state, seeded(2)).state
    changed = (after["chains"] != state["chains"]).any(1).view(2, 40).sum(1)
    assert changed.tolist() == [min(moved, 40), 20]


@pytest.mark.parametrize(
    "sampler",
    [
        Langevin(step_size=0.1),
        replace(MALA, clamp=3.0),
        Annealed(sampler=MALA, temperature_start=3.0, anneal_steps=10),
        Tempering(sampler=MALA, hottest=10.0, levels=2, replicas=8),
    ],
    ids=["langevin", "clamp", "annealed", "tempering"],
)
def test_a_biased_sampler_is_refused(sampler):
    with pytest.raises(ValueError, match=r"leaves exp\(-E / T\) .* sampler=mala"):
        Jarzynski(sampler=sampler)


def test_negatives_and_chain_starts_are_weighted():
    """Of chains 0 .. 99 with weight proportional to their number, chosen ones have mean 66.3."""
    chains = torch.arange(100.0, dtype=torch.float64)[:, None]
    weighted = MethodChains(chains, chains[:, 0].log(), None, None)
    means = [resample_chains(weighted, 50, seeded(i)).mean() for i in range(50)]
    assert_mean(torch.stack(means), (chains.square().sum() / chains.sum()).item())
    unweighted = MethodChains(chains, None, None, None)
    plain = [resample_chains(unweighted, 50, seeded(i)).mean() for i in range(50)]
    assert_mean(torch.stack(plain), 49.5)


@pytest.mark.usefixtures("no_pictures")
def test_a_run_reports_log_z_in_the_units_of_the_data(configured, tmp_path):
    """Of the averaged weights, at the sampler's temperature, beside the grid's log Z."""
    words = ("method=jarzynski", "sampler.temperature=0.8", "optimizer.lr=0.01")
    experiment = build(configured(*words))
    metrics = run_experiment(experiment, tmp_path / "run", {}, quiet=True)["metrics"]
    assert abs(experiment.standardization.log_volume) > 0.5
    assert abs(metrics["log_z_running"] - metrics["log_z"]) < 0.15
