"""The Gaussian against torch's own and against its known maximum of the likelihood."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from ebmtrain.models.gaussian import Gaussian


def random_gaussian(d: int) -> Gaussian:
    """With parameters far from where they start."""
    model = Gaussian(event_shape=(d,)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(generator=generator)
    return model


def test_closed_form_score_is_that_of_autograd():
    """dE/dx = L L' (x - mu): L and its transpose differ once it is not diagonal."""
    model = random_gaussian(4)
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    e = model(x.requires_grad_())
    (gradient,) = torch.autograd.grad(e.sum(), x)
    closed_e, closed_gradient = model.energy_and_gradient(x)
    torch.testing.assert_close(closed_e, e)
    torch.testing.assert_close(closed_gradient, gradient)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_energy_is_minus_the_log_density(d):
    """-E(x) - log Z is the log density of N(mu, (L L')^-1)."""
    model = random_gaussian(d)
    x = torch.randn(10, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    precision = model.factor @ model.factor.T
    truth = MultivariateNormal(model.mean, precision_matrix=precision)
    torch.testing.assert_close(-model(x) - model.log_z(1.0), truth.log_prob(x))


def test_likelihood_is_stationary_at_the_moments_of_the_data():
    """d/dtheta (mean E + log Z) = 0 at mu = mean(x), P = cov(x)^-1; and nowhere near it."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64).cumsum(1) * 2 + 1
    model = Gaussian(event_shape=(3,)).double()
    factor = torch.linalg.cholesky(torch.cov(x.T, correction=0).inverse())
    with torch.no_grad():
        model.mean.copy_(x.mean(0))
        model.log_diagonal.copy_(factor.diagonal().log())
        model.lower.copy_(factor)
    for shift, still in ((0.0, True), (0.1, False)):
        with torch.no_grad():
            model.mean.add_(shift)
        gradient = torch.autograd.grad(model(x).mean() + model.log_z(1.0), list(model.parameters()))
        assert (max(g.abs().max().item() for g in gradient) < 1e-12) is still


def test_initial_standard_deviation_is_the_given_one():
    model = Gaussian(event_shape=(2, 2), initial_std=3.0).double()
    x = torch.ones(1, 2, 2, dtype=torch.float64)
    assert model(x).item() == pytest.approx(4 / (2 * 9))
    assert model.log_z(1.0).item() == pytest.approx(2 * math.log(2 * math.pi * 9))
