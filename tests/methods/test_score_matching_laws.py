"""The laws of sm, ssm and dsm on E = a ||x||^2 / 2."""

from __future__ import annotations

import pytest
import torch
from quadratic import Quadratic, assert_mean, loss_and_slope, minimisers, normal, seeded

from ebmtrain.methods.denoising_score_matching import DenoisingScoreMatching
from ebmtrain.methods.score_matching import ScoreMatching
from ebmtrain.methods.sliced_score_matching import SlicedScoreMatching
from ebmtrain.models.mlp import MLP
from ebmtrain.types import Batch


@pytest.mark.parametrize("shape", [(3,), (2, 2)])
@pytest.mark.parametrize("a", [0.3, 1.0, 2.0])
def test_exact_score_matching(a, shape):
    """L = a^2 / 2 mean ||x||^2 - a d, and not a^2 / 2 mean ||x||^2, whose minimum is at 0."""
    x = normal(40, *shape)
    d, square = x[0].numel(), x.flatten(1).square().sum(1).mean().item()
    loss, slope = loss_and_slope(ScoreMatching(), a, x)
    assert loss == pytest.approx(a**2 / 2 * square - a * d)
    assert slope == pytest.approx(a * square - d)


def test_score_matching_of_a_gaussian_has_its_minimum_at_the_truth():
    """J(a) = d (a^2 / 2 - a) in expectation: minimum at 1, value -d / 2."""
    assert_mean(minimisers(ScoreMatching(), lambda i: normal(500, 3, seed=i)), 1)
    losses = [loss_and_slope(ScoreMatching(), 1.0, normal(500, 3, seed=i))[0] for i in range(50)]
    assert_mean(torch.tensor(losses, dtype=torch.float64), -3 / 2)


@pytest.mark.parametrize("variance_reduced", [False, True])
@pytest.mark.parametrize("n_projections", [1, 4])
def test_sliced_forms_have_the_minimum_of_score_matching(variance_reduced, n_projections):
    """At 1 in 3 dimensions; with v on the unit sphere the second form would have it at 1/3. Their
    values at the minimum are -d / 2 too."""
    method = SlicedScoreMatching(n_projections=n_projections, variance_reduced=variance_reduced)
    assert_mean(minimisers(method, lambda i: normal(1_000, 3, seed=1000 + i)), 1)
    losses = [
        loss_and_slope(method, 1.0, normal(1_000, 3, seed=1000 + i), seed=i)[0] for i in range(50)
    ]
    assert_mean(torch.tensor(losses, dtype=torch.float64), -3 / 2)


def test_variance_reduction_reduces_variance():
    x = normal(1_000, 3)
    spread = [
        torch.tensor(
            [
                loss_and_slope(SlicedScoreMatching(variance_reduced=reduced), 1.0, x, seed=i)[0]
                for i in range(40)
            ]
        ).std()
        for reduced in (False, True)
    ]
    assert spread[1] < 0.8 * spread[0]


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_denoising_minimum_and_sign(sigma):
    """Minimum at the precision of the blurred data, 1 / (1 + sigma^2); slope -d sigma^2 at 0. With
    the wrong sign both change theirs."""
    method = DenoisingScoreMatching(sigma=sigma)
    found = minimisers(method, lambda i: normal(2_000, 2, seed=1000 + i))
    assert_mean(found, 1 / (1 + sigma**2))
    slopes = [
        loss_and_slope(method, 0.0, normal(2_000, 2, seed=1000 + i), seed=i)[1] for i in range(50)
    ]
    assert_mean(torch.tensor(slopes, dtype=torch.float64), -2 * sigma**2)


def test_denoising_value():
    """L = sigma^2 / 2 mean || s + xi / sigma ||^2 is d / 2 at a = 0, for any sigma, and its
    minimum is d / 2 * 1 / (1 + sigma^2): Var(xi | noised) is what no score can explain."""
    sigma = 0.5
    method = DenoisingScoreMatching(sigma=sigma)
    for a, expected in ((0.0, 1.0), (1 / (1 + sigma**2), 1 / (1 + sigma**2))):
        losses = [
            loss_and_slope(method, a, normal(1_000, 2, seed=1000 + i), seed=i)[0] for i in range(50)
        ]
        assert_mean(torch.tensor(losses, dtype=torch.float64), expected)


METHODS = pytest.mark.parametrize(
    "method",
    [
        ScoreMatching(),
        SlicedScoreMatching(),
        SlicedScoreMatching(variance_reduced=False, n_projections=2),
        DenoisingScoreMatching(sigma=0.3),
    ],
    ids=["sm", "ssm-vr", "ssm", "dsm"],
)


@METHODS
@pytest.mark.parametrize("event", [(2,), (2, 2)])
def test_the_gradient_is_of_the_whole_loss(method, event):
    """dL/dtheta along a random direction is the central difference: no term is detached. (The
    constant of the energy, the last bias, is in none of these losses.)"""
    energy = MLP(event_shape=event, width=8, fourier_features=3, base_std=1.5).double()
    x = normal(6, *event)
    with torch.no_grad():
        for i, p in enumerate(energy.parameters()):
            p.copy_(normal(*p.shape, seed=i) / 2)
    directions = [normal(*p.shape, seed=100 + i) for i, p in enumerate(energy.parameters())]

    def loss() -> torch.Tensor:
        return method.loss(energy, Batch(x), {}, seeded(9)).loss

    parameters = list(energy.parameters())
    gradient = torch.autograd.grad(loss(), parameters, materialize_grads=True)
    slope = sum((g * v).sum().item() for g, v in zip(gradient, directions, strict=True))
    values, h = [], 1e-5
    for step in (h, -2 * h):
        with torch.no_grad():
            for p, v in zip(energy.parameters(), directions, strict=True):
                p.add_(v, alpha=step)
        values.append(loss().item())
    assert slope == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5)


@METHODS
def test_shifting_the_energy_changes_nothing(method):
    x = normal(10, 2)
    results = []
    for c in (0.0, 7.0):
        energy = Quadratic(1.3, c)
        loss = method.loss(energy, Batch(x), {}, seeded()).loss
        results.append((loss.item(), torch.autograd.grad(loss, energy.a)[0].item()))
    assert results[0] == pytest.approx(results[1])
