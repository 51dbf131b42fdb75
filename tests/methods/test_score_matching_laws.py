"""The laws of sm, ssm, fd_ssm, ksd and dsm on E = a ||x||^2 / 2."""

from __future__ import annotations

import pytest
import torch
from quadratic import Quadratic, loss_and_slope, minimisers
from repeats import assert_mean, normal, seeded

from ebmtrain.methods.denoising_score_matching import DenoisingScoreMatching
from ebmtrain.methods.finite_difference_score_matching import FiniteDifferenceScoreMatching
from ebmtrain.methods.kernel_stein_discrepancy import KernelSteinDiscrepancy
from ebmtrain.methods.score_matching import ScoreMatching
from ebmtrain.methods.sliced_score_matching import SlicedScoreMatching
from ebmtrain.models.mlp import MLP
from ebmtrain.score import stein_kernel
from ebmtrain.types import Batch


@pytest.mark.parametrize("shape", [(3,), (2, 2)])
@pytest.mark.parametrize("a", [0.3, 1.0, 2.0])
def test_score_matching_is_its_closed_form(a, shape):
    """L = a^2 / 2 mean ||x||^2 - a d, and not a^2 / 2 mean ||x||^2, whose minimum is at 0."""
    x = normal(40, *shape)
    d, square = x[0].numel(), x.flatten(1).square().sum(1).mean().item()
    loss, slope = loss_and_slope(ScoreMatching(), a, x)
    assert loss == pytest.approx(a**2 / 2 * square - a * d)
    assert slope == pytest.approx(a * square - d)


def test_score_matching_of_a_gaussian_is_minimal_at_the_truth():
    """J(a) = d (a^2 / 2 - a) in expectation: minimum at 1, value -d / 2."""
    assert_mean(minimisers(ScoreMatching(), lambda i: normal(500, 3, seed=i)), 1)
    losses = [loss_and_slope(ScoreMatching(), 1.0, normal(500, 3, seed=i))[0] for i in range(50)]
    assert_mean(torch.tensor(losses, dtype=torch.float64), -3 / 2)


@pytest.mark.slow
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


@pytest.mark.parametrize("variance_reduced", [False, True])
@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_sliced_losses_are_exact_for_each_projection(shape, variance_reduced):
    """(v's)^2 / 2 + v'(ds)v = a^2 (x'v)^2 / 2 - a ||v||^2 for the very v that are drawn, and
    a^2 ||x||^2 / 2 in place of the first term with less variance."""
    a, x = 1.3, normal(20, *shape)
    v = torch.empty(4, *x.shape, dtype=x.dtype).normal_(generator=seeded(7)).flatten(2)
    along = (x.flatten(1) * v).sum(2) if not variance_reduced else x.flatten(1).norm(dim=1)
    expected = (a**2 * along.square() / 2).mean() - a * v.square().sum(2).mean()
    method = SlicedScoreMatching(n_projections=4, variance_reduced=variance_reduced)
    assert loss_and_slope(method, a, x, seed=7)[0] == pytest.approx(expected.item())


@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_finite_differences_are_exact_for_a_quadratic(shape):
    """a^2 (x'v)^2 / 2 - a ||v||^2, draw by draw, at any eps."""
    a, x = 1.3, normal(20, *shape)
    v = torch.empty_like(x).normal_(generator=seeded(7)).flatten(1)
    along = (x.flatten(1) * v).sum(1)
    expected = (a**2 * along.square() / 2).mean() - a * v.square().sum(1).mean()
    for eps in (0.01, 1.0):
        method = FiniteDifferenceScoreMatching(eps=eps)
        assert loss_and_slope(method, a, x, seed=7)[0] == pytest.approx(expected.item())


def test_finite_differences_converge_to_sliced_score_matching():
    """On a network, with the same v: a quarter of the error at half of eps."""
    options = {"input_scale": 1.0, "fourier_scale": 1.0, "base_std": None}
    energy = MLP(event_shape=(2,), width=8, fourier_features=3, **options).double()
    x = normal(50, 2)
    with torch.no_grad():
        for i, p in enumerate(energy.parameters()):
            p.copy_(normal(*p.shape, seed=i) / 2)
    sliced = SlicedScoreMatching(variance_reduced=False)
    exact = sliced.loss(energy, Batch(x), {}, seeded(3)).loss.item()
    errors = []
    for eps in (0.02, 0.01):
        method = FiniteDifferenceScoreMatching(eps=eps)
        errors.append(method.loss(energy, Batch(x), {}, seeded(3)).loss.item() - exact)
    assert abs(errors[1]) < 0.01 * abs(exact)
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_stein_kernel_is_its_definition():
    """s(x)'s(y) k + s(x)' dk/dy + s(y)' dk/dx + tr d2k/dxdy by autograd, for any s."""
    x, s, y, t = (normal(4, 3, seed=i) for i in range(4))
    scale = 0.7
    found = stein_kernel(x, s, y, t, scale)

    def k(a, b):
        return (scale**2 + (a - b).square().sum()) ** -0.5

    for i in range(4):
        for j in range(4):
            by_x, by_y = torch.autograd.functional.jacobian(k, (x[i], y[j]))
            cross = torch.autograd.functional.hessian(k, (x[i], y[j]))[0][1]
            u = s[i] @ t[j] * k(x[i], y[j]) + s[i] @ by_y + t[j] @ by_x + cross.trace()
            torch.testing.assert_close(found[i, j], u)


def test_stein_kernel_of_points_far_from_the_origin():
    """In single precision, where the products with the points alone would lose all digits. The
    shift is exact: the points are multiples of 1/8."""
    x, y = ((normal(20, 2, seed=i) * 8).round().float() / 8 for i in (1, 2))
    s, t = (normal(20, 2, seed=i).float() for i in (3, 4))
    near = stein_kernel(x, s, y, t, 1.0)
    torch.testing.assert_close(stein_kernel(x + 4096, s, y + 4096, t, 1.0), near)


def test_stein_discrepancy_of_a_gaussian_is_zero_at_the_truth():
    """(1 - a)^2 V in expectation, with V = E x'y k(x, y) > 0: 0 at the truth, which a sum with its
    diagonal would miss by 2 / (n scale) or so, and the same at a = 0 and 2."""
    method = KernelSteinDiscrepancy(scale=0.7)

    def values(a: float) -> torch.Tensor:
        found = [loss_and_slope(method, a, normal(100, 2, seed=1_000 + i))[0] for i in range(60)]
        return torch.tensor(found, dtype=torch.float64)

    at_0, at_1, at_2 = values(0.0), values(1.0), values(2.0)
    assert_mean(at_1, 0.0)
    assert_mean(at_0 - at_2, 0.0)
    x, y = normal(4_000, 2), normal(4_000, 2, seed=1)
    v = ((x * y).sum(1) * (0.49 + (x - y).square().sum(1)) ** -0.5).mean().item()
    assert v > 0.1
    assert at_0.mean().item() == pytest.approx(v, rel=0.1)


@pytest.mark.parametrize("n", [2, 5])
def test_stein_discrepancy_is_the_mean_over_pairs_of_different_points(n):
    """Of two points it is u of these two; of n the mean of n (n - 1) numbers."""
    x = normal(n, 3)
    u = stein_kernel(x, -1.3 * x, x, -1.3 * x, 0.7)
    pairs = [u[i, j].item() for i in range(n) for j in range(n) if i != j]
    found, _ = loss_and_slope(KernelSteinDiscrepancy(scale=0.7), 1.3, x)
    assert found == pytest.approx(sum(pairs) / len(pairs))


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
def test_denoising_is_minimal_at_the_convolved_precision(sigma):
    """Minimum at the precision of the blurred data, 1 / (1 + sigma^2); slope -d sigma^2 at 0. With
    the wrong sign both change theirs."""
    method = DenoisingScoreMatching(sigma=sigma)
    found = minimisers(method, lambda i: normal(2_000, 2, seed=1000 + i))
    assert_mean(found, 1 / (1 + sigma**2))
    slopes = [
        loss_and_slope(method, 0.0, normal(2_000, 2, seed=1000 + i), seed=i)[1] for i in range(50)
    ]
    assert_mean(torch.tensor(slopes, dtype=torch.float64), -2 * sigma**2)


def test_denoising_loss_is_its_closed_form():
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
        FiniteDifferenceScoreMatching(),
        KernelSteinDiscrepancy(),
    ],
    ids=["sm", "ssm-vr", "ssm", "dsm", "fd_ssm", "ksd"],
)


@METHODS
@pytest.mark.parametrize("event", [(2,), (2, 2)])
def test_the_gradient_is_that_of_the_loss(method, event):
    """dL/dtheta along a random direction is the central difference: no term is detached. (The
    constant of the energy, the last bias, is in none of these losses.)"""
    energy = MLP(
        event_shape=event, width=8, input_scale=1.0, fourier_features=3, fourier_scale=1.0
    ).double()
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


@pytest.mark.parametrize(
    "method",
    [
        ScoreMatching(),
        SlicedScoreMatching(),
        DenoisingScoreMatching(sigma=1e-9),
        KernelSteinDiscrepancy(),
    ],
    ids=["sm", "ssm", "dsm", "ksd"],
)
def test_score_norm_is_over_whole_events(method):
    """sqrt(mean ||s||^2), s = -a x."""
    x = normal(20, 2, 3)
    out = method.loss(Quadratic(1.3), Batch(x), {}, seeded())
    expected = 1.3 * x.flatten(1).square().sum(1).mean().sqrt().item()
    assert out.metrics["score_norm"].item() == pytest.approx(expected)
