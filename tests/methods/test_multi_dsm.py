"""Denoising at many noises: on N(0, I), whose blurred energy is ||x||^2 / (2 (1 + sigma^2))."""

from __future__ import annotations

import math

import pytest
import torch
from quadratic import Quadratic
from repeats import assert_mean, normal, seeded
from torch import Tensor

from ebmtrain.config.validate import validate
from ebmtrain.errors import ConfigError
from ebmtrain.methods.multi_noise_score_matching import MultiNoiseScoreMatching
from ebmtrain.models.noise_conditional_mlp import NoiseConditionalMLP
from ebmtrain.score import score
from ebmtrain.types import Batch

LOW, HIGH = 0.2, 2.0


class Conditional(Quadratic):
    """E(x, sigma) = a ||x||^2 / (2 (1 + sigma^2)): the truth at a = 1."""

    sigma_min, sigma_max = LOW, HIGH

    def forward(self, x: Tensor, sigma: Tensor | None = None) -> Tensor:
        return super().forward(x) / (1 + (LOW**2 if sigma is None else sigma.square()))


def loss(a: float, seed: int) -> tuple[Tensor, Tensor]:
    energy = Conditional(a)
    x = normal(500, 2, seed=1_000 + seed)
    out = MultiNoiseScoreMatching().loss(energy, Batch(x), {}, seeded(seed))
    (slope,) = torch.autograd.grad(out.loss, energy.a)
    return out.loss.detach(), slope


def test_minimum_and_value():
    """At a = 1 the slope is 0 and L = d / 2 * mean 1 / (1 + sigma^2), with log sigma uniform: each
    sigma leaves what no score can explain. At a = 0 L is d / 2: all noises count alike."""
    values, slopes = zip(*(loss(1.0, i) for i in range(60)), strict=True)

    def integral(sigma: float) -> float:
        return math.log(sigma) - math.log(1 + sigma**2) / 2

    mean = (integral(HIGH) - integral(LOW)) / math.log(HIGH / LOW)
    assert_mean(torch.stack(slopes), 0.0)
    assert_mean(torch.stack(values), mean)
    assert_mean(torch.stack([loss(0.0, i)[0] for i in range(60)]), 1.0)


def test_gradient_is_that_of_the_loss():
    for a in (0.5, 1.7):
        h = 1e-5
        by_a = (loss(a + h, 3)[0] - loss(a - h, 3)[0]) / (2 * h)
        torch.testing.assert_close(loss(a, 3)[1], by_a, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("event", [(3,), (2, 2)])
def test_the_default_sigma_is_the_smallest(event):
    torch.manual_seed(0)
    model = NoiseConditionalMLP(event_shape=event, sigma_min=0.1, fourier_features=5).double()
    x = normal(6, *event)
    least, most = torch.full((6,), 0.1), torch.full((6,), 1.0)
    torch.testing.assert_close(model(x), model(x, least))
    torch.testing.assert_close(model.energy_and_gradient(x)[1], -score(model, x).detach())
    assert ((model(x) - model(x, most)).abs() > 1e-3).all()
    mixed = torch.where(torch.arange(6) < 3, least, most)
    torch.testing.assert_close(model(x, mixed)[3:], model(x, most)[3:])


def test_the_noise_level_is_embedded_by_its_logarithm():
    """E(x, sigma) = MLP([x, c]) with c = 0, 1/2 and 1 at the least noise, at the geometric mean and
    at the most."""
    torch.manual_seed(0)
    model, x = (
        NoiseConditionalMLP(event_shape=(2,), sigma_min=0.1, sigma_max=1.6).double(),
        normal(3, 2),
    )
    c = torch.tensor([[0.0], [0.5], [1.0]], dtype=torch.float64)
    sigma = torch.tensor([0.1, 0.4, 1.6], dtype=torch.float64)
    torch.testing.assert_close(model(x, sigma), model.mlp(torch.cat([x, c], 1)))


def test_an_unconditional_energy_is_refused(configured):
    with pytest.raises(ConfigError, match=r"multi_dsm needs .* model=noise_conditional_mlp"):
        validate(configured("method=multi_dsm"))
    validate(configured("method=multi_dsm", "model=noise_conditional_mlp"))


def test_noise_levels_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"sigma_min=2\.0 must be less than sigma_max=1\.0"):
        NoiseConditionalMLP(event_shape=(2,), sigma_min=2.0)
