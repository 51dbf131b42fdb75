"""The laws of cd and pcd on E = a ||x||^2 / 2, and of the loss that they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from quadratic import Quadratic
from repeats import assert_mean, normal, seeded
from torch import Tensor

from ebmtrain.methods.contrast import add_noise, contrastive_loss
from ebmtrain.methods.contrastive_divergence import ContrastiveDivergence
from ebmtrain.methods.persistent_contrastive_divergence import PersistentContrastiveDivergence
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Batch, StepInfo


class State(NamedTuple):
    x: Tensor


@dataclass(frozen=True)
class Exact:
    """Independent draws from exp(-E), and not a chain at all."""

    def init(self, energy, x):
        return State(x)

    def step(self, energy, state, generator):
        noise = torch.empty_like(state.x).normal_(generator=generator)
        ones = torch.ones(len(noise))
        return State(noise / energy.a.detach().sqrt()), StepInfo(ones, ones * 0)


@dataclass(frozen=True)
class AddOne:
    """x + amount, every step."""

    amount: float

    def init(self, energy, x):
        return State(x)

    def step(self, energy, state, generator):
        ones = torch.ones(len(state.x))
        return State(state.x + self.amount), StepInfo(ones, ones * 0)


def slopes(method, a: float, n: int = 60, batch: int = 500, d: int = 2) -> Tensor:
    """dL/da of n independent batches of N(0, I), each with fresh chains."""
    found = []
    for i in range(n):
        energy, generator = Quadratic(a), seeded(i)
        x = normal(batch, d, seed=10_000 + i)
        loss = method.loss(energy, Batch(x), method.init(x, generator), generator).loss
        found.append(torch.autograd.grad(loss, energy.a)[0])
    return torch.stack(found)


@pytest.mark.parametrize("a", [0.5, 1.0, 2.0])
def test_exact_negatives_give_the_likelihood_gradient(a):
    """dL/da = d / 2 (1 - 1 / a): -0.5 d at a = 0.5. Its sign is that of gradient descent."""
    method = ContrastiveDivergence(sampler=Exact(), k=1, energy_regularization=0.0)
    assert_mean(slopes(method, a), 1 - 1 / a)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "fixed_point"),
    [(Langevin(step_size=0.1), (1 - 0.8**0.5) / 0.1), (Mala(step_size=0.5), 1.0)],
)
@pytest.mark.parametrize("persistent", [True, False])
def test_fixed_points_of_training(sampler, fixed_point, persistent):
    """ULA at eta = 0.1 has its fixed point where a (1 - eta a / 2) = 1, a = 1.056, and MALA at 1.
    There the gradient is zero, and 0.1 further it pushes back. Chains of 80 steps from noise."""
    if persistent:
        method = PersistentContrastiveDivergence(
            sampler=sampler, k=80, slots=500, noise_std=1.0, energy_regularization=0.0
        )
    else:
        method = ContrastiveDivergence(
            sampler=sampler, k=80, start="noise", noise_std=1.0, energy_regularization=0.0
        )
    assert_mean(slopes(method, fixed_point), 0)
    elsewhere = slopes(method, fixed_point + 0.1)
    assert elsewhere.mean() > 4 * elsewhere.std() / len(elsewhere) ** 0.5


def test_cd_chains_start_at_data_or_noise():
    """start: data at the batch; start: noise at N(0, noise_std^2 I), whatever the data."""
    x = normal(4_000, 2) + 100
    seen = {}
    for start in ("data", "noise"):
        method = ContrastiveDivergence(sampler=AddOne(0.0), k=1, start=start, noise_std=3.0)
        energy = Quadratic(1.0)
        out = method.loss(energy, Batch(x), method.init(x, seeded()), seeded())
        seen[start] = out.metrics["energy_model"].item()
    assert seen["data"] == pytest.approx(Quadratic()(x).mean().item())
    energies = Quadratic()(normal(4_000, 2) * 3)
    error = energies.std().item() / 4_000**0.5
    assert abs(seen["noise"] - 9) < 4 * error


def test_regularization_is_its_formula():
    """L = mean E+ - mean E- + alpha (mean E+^2 + mean E-^2), and its gradient."""
    energy, x, y = Quadratic(0.7, 0.4), normal(5, 2), normal(8, 2, seed=1)
    loss, metrics = contrastive_loss(energy, x, y, 0.3)
    a, b = energy(x), energy(y)
    expected = a.mean() - b.mean() + 0.3 * (a.square().mean() + b.square().mean())
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, energy.a), torch.autograd.grad(expected, energy.a)
    )
    assert metrics["energy_data"].item() == pytest.approx(a.mean().item())
    assert metrics["energy_model"].item() == pytest.approx(b.mean().item())
    assert not any(value.requires_grad for value in metrics.values())


def test_negatives_are_detached():
    """A gradient to the negatives themselves would train another objective."""
    energy, negatives = Quadratic(), normal(5, 2).requires_grad_()
    loss, _ = contrastive_loss(energy, normal(5, 2, seed=1), negatives, 0.1)
    loss.backward()
    assert negatives.grad is None


@pytest.mark.parametrize("sampler", [Langevin(step_size=0.1), Mala(step_size=0.5)])
def test_shifting_the_energy_changes_no_unregularised_gradient(sampler):
    """E + 7 has the gradient of E, and with alpha > 0 it has not."""
    x = normal(20, 2)
    for alpha, same in ((0.0, True), (0.1, False)):
        method = ContrastiveDivergence(sampler=sampler, k=3, energy_regularization=alpha)
        found = []
        for c in (0.0, 7.0):
            energy = Quadratic(1.3, c)
            loss = method.loss(energy, Batch(x), {}, seeded()).loss
            found.append(torch.autograd.grad(loss, energy.a)[0].item())
        assert (abs(found[0] - found[1]) < 1e-12) is same


def test_data_noise_has_the_given_standard_deviation():
    """data_noise = s: positives of variance 1 + s^2 and a batch that is not written to; none, and
    no random number drawn, at 0."""
    x = normal(20_000, 2)
    kept, generator = x.clone(), seeded(1)
    state = generator.get_state()
    assert torch.equal(add_noise(x, 0.0, generator), x)
    assert torch.equal(generator.get_state(), state)
    assert_mean(add_noise(x, 0.5, generator).square().mean(1), 1.25)
    assert torch.equal(x, kept)
