"""The two terms that improved contrastive divergence adds to pcd."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from quadratic import Quadratic
from repeats import assert_mean, normal, seeded

from ebmtrain.methods.improved_contrastive_divergence import (
    ImprovedContrastiveDivergence,
    _nearest_neighbour_entropy,
)
from ebmtrain.methods.persistent_contrastive_divergence import PersistentContrastiveDivergence
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Batch

ETA, T, A = 0.05, 0.7, 1.3
METHOD = ImprovedContrastiveDivergence(
    sampler=Mala(step_size=0.2, temperature=T), k=2, slots=40, noise_std=1.0, step_size=ETA,
    energy_regularization=0.0,
)  # fmt: skip


def slope_and_state(method, seed: int = 1):
    """L, dL/da and the state at a = A, of one batch of 30."""
    energy, x = Quadratic(A), normal(30, 2)
    out = method.loss(energy, Batch(x), method.init(x, seeded(seed)), seeded(seed + 1))
    (slope,) = torch.autograd.grad(out.loss, energy.a)
    return out, slope


def additional_slope(**weights: float):
    """What a term adds to the slope, and the chain ends and noise that it was computed from."""
    plain, slope = slope_and_state(replace(METHOD, kl_weight=0.0, entropy_weight=0.0))
    with_term, other = slope_and_state(
        replace(METHOD, **({"kl_weight": 0.0, "entropy_weight": 0.0} | weights))
    )
    for name, value in plain.state.items():
        assert torch.equal(value, with_term.state[name]), name
    generator = seeded(2)
    drawn = torch.randperm(40, generator=generator)[:30]
    for _ in range(2):  # what the two steps of the chain draw
        torch.empty(30, 2, dtype=torch.float64).normal_(generator=generator)
        torch.empty(30, dtype=torch.float64).uniform_(generator=generator)
    noise = torch.empty(30, 2, dtype=torch.float64).normal_(generator=generator)
    return other - slope, plain.state["chains"][drawn], noise


def test_zero_weights_give_pcd():
    pcd = PersistentContrastiveDivergence(
        sampler=METHOD.sampler, k=2, slots=40, noise_std=1.0, energy_regularization=0.1
    )
    same = replace(METHOD, kl_weight=0.0, entropy_weight=0.0, energy_regularization=0.1)
    (one, slope), (two, other) = slope_and_state(pcd), slope_and_state(same)
    torch.testing.assert_close(one.loss, two.loss)
    torch.testing.assert_close(slope, other)
    assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)


def step(a, x, noise):
    """y, as a function of the a in the drift."""
    return x - ETA * a * x + (2 * ETA * T) ** 0.5 * noise


def test_kl_term_differentiates_the_step_and_not_the_outer_energy():
    """d/da mean E_frozen(y) = mean A y'(-eta x): nothing of mean ||y||^2 / 2, the slope of the
    judge."""
    found, x, noise = additional_slope(kl_weight=2.0)
    y = step(A, x, noise)
    torch.testing.assert_close(found, 2 * (A * y * -ETA * x).sum(1).mean())


def test_entropy_term_is_the_slope_of_the_entropy():
    """-T dH(y)/da, by central differences of the same estimate."""
    found, x, noise = additional_slope(entropy_weight=2.0)
    h = 1e-6
    by_a = (
        _nearest_neighbour_entropy(step(A + h, x, noise))
        - _nearest_neighbour_entropy(step(A - h, x, noise))
    ) / (2 * h)
    torch.testing.assert_close(found, -2 * T * by_a, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("event", [(1,), (3,), (2, 2)])
def test_nearest_neighbour_entropy_of_a_gaussian(event):
    """d / 2 log(2 pi e) + d log std, within the estimate's bias of 0.05 and 4 standard errors."""
    d, std = math.prod(event), 0.6
    found = torch.stack(
        [_nearest_neighbour_entropy(std * normal(1_000, *event, seed=i)) for i in range(10)]
    )
    truth = d / 2 * math.log(2 * math.pi * math.e) + d * math.log(std)
    error = found.std().item() / 10**0.5
    assert abs(found.mean().item() - truth) < 0.05 * d + 4 * error


def test_entropy_shifts_by_the_log_of_the_scale():
    """H(c y) = H(y) + d log c, and twice the same point is no infinity."""
    y = normal(50, 3)
    torch.testing.assert_close(
        _nearest_neighbour_entropy(2 * y), _nearest_neighbour_entropy(y) + 3 * math.log(2)
    )
    y[1] = y[0]
    y.requires_grad_()
    _nearest_neighbour_entropy(y).backward()
    assert y.grad is not None
    assert y.grad.isfinite().all()


def test_it_is_stationary_at_the_truth():
    """At a = 1, T = 1, where q = p, the terms of the KL cancel each other and the slope is 0, up to
    the bias of eta and of the neighbours."""
    method = replace(METHOD, sampler=Mala(step_size=0.3), k=20, slots=400, step_size=0.01)
    slopes = []
    for seed in range(40):
        energy, x = Quadratic(1.0), normal(400, 2, seed=1_000 + seed)
        loss = method.loss(energy, Batch(x), method.init(x, seeded(seed)), seeded(seed)).loss
        slopes.append(torch.autograd.grad(loss, energy.a)[0])
    assert_mean(torch.stack(slopes), 0.0)
