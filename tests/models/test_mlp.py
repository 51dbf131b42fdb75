"""The perceptron: initial weights, Fourier features, base measure, spectral norm."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ebmtrain.models.layers import FourierFeatures
from ebmtrain.models.mlp import ACTIVATIONS, INITIALISATIONS, MLP
from ebmtrain.models.wrappers import to_data_units
from ebmtrain.types import Standardization


def seeded(**options: Any) -> MLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = {"input_scale": 1.0, "fourier_features": 0, "base_std": None}
        model = MLP(**({"event_shape": (2,), "width": 32} | plain | options))
        for layer in model.layers():  # a bias of 0 would hide a bias left out
            torch.nn.init.normal_(layer.bias)
    return model


def points(n: int, d: int = 2) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("fourier_features", [0, 8])
@pytest.mark.parametrize("base_std", [None, 1.5])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_closed_form_score_is_that_of_autograd(
    activation, base_std, fourier_features, spectral_norm, dtype
):
    """Of every activation, with and without each part, both in train and in eval mode."""
    model = seeded(
        activation=activation,
        base_std=base_std,
        fourier_features=fourier_features,
        spectral_norm=spectral_norm,
        input_scale=3.0,
        fourier_scale=2.0,
    ).to(dtype)
    model.eval()
    x = points(30).to(dtype).requires_grad_()
    e = model(x)
    (gradient,) = torch.autograd.grad(e.sum(), x)
    closed_e, closed_gradient = model.energy_and_gradient(x.detach())
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {}
    torch.testing.assert_close(closed_e, e, **tolerance)
    torch.testing.assert_close(closed_gradient, gradient, **tolerance)


@pytest.mark.parametrize(
    ("activation", "order"), [(a, 1 if a == "leaky_relu" else 2) for a in sorted(ACTIVATIONS)]
)
def test_derivatives_against_finite_differences(activation, order):
    """autograd's own first and, but for leaky_relu, second derivatives in x."""
    model = seeded(activation=activation, width=8).double()
    x = points(3).requires_grad_()
    assert torch.autograd.gradcheck(model, x)
    if order == 2:
        assert torch.autograd.gradgradcheck(model, x)


@pytest.mark.parametrize("name", sorted(INITIALISATIONS))
def test_initial_variance(name):
    """Var w = 1 / inputs, 2 / inputs, 2 / (inputs + outputs); orthogonal: W'W = I. 4 sigma."""
    inputs, outputs = 300, 200
    w = torch.empty(outputs, inputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        INITIALISATIONS[name](w)
    if name == "orthogonal":
        torch.testing.assert_close(w @ w.T, torch.eye(outputs), rtol=0, atol=1e-5)
        return
    variance = {"lecun": 1 / inputs, "kaiming": 2 / inputs, "xavier": 2 / (inputs + outputs)}[name]
    error = variance * math.sqrt(2 / w.numel())
    assert abs(w.square().mean().item() - variance) < 4 * error


def test_every_layer_is_initialised():
    model = MLP(event_shape=(2,), width=64, depth=3, initialisation="orthogonal")
    for layer in model.layers():
        gram = layer.weight @ layer.weight.T
        if gram.shape[0] > layer.weight.shape[1]:
            gram = layer.weight.T @ layer.weight
        torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5)
        assert (layer.bias == 0).all()


def test_base_measure_is_added():
    """E with base_std = b less E without is ||x||^2 / (2 b^2)."""
    x = points(10)
    difference = seeded(base_std=1.5).double()(x) - seeded().double()(x)
    torch.testing.assert_close(difference, x.square().sum(1) / (2 * 1.5**2))


@pytest.mark.parametrize("d", [1, 2, 8])
def test_fourier_features_approximate_the_gaussian_kernel(d):
    """mean_j cos(w_j (x - y)) estimates exp(-fourier_scale^2 ||x - y||^2 / d): the same at one
    mean square difference per coordinate, whatever d is. Within 4 standard errors."""
    n, scale = 40_000, 1.5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        embedding = FourierFeatures(d, 1.0, n, scale)
    x, y = torch.full((1, d), 0.2), torch.full((1, d), -0.3)
    cosines = (embedding.frequencies @ (x - y)[0]).cos()
    expected = math.exp(-(scale**2) * 0.5**2)
    assert abs(cosines.mean().item() - expected) < 4 * cosines.std().item() / math.sqrt(n)
    a, b = (embedding(z)[0, d:] for z in (x, y))
    assert (a @ b / n).item() == pytest.approx(cosines.mean().item(), abs=1e-4)


def test_embedding_is_the_scaled_input_and_its_fourier_features():
    embedding = FourierFeatures(2, 3.0, 4, 1.0).double()
    x = points(5)
    phase = x @ embedding.frequencies.T
    torch.testing.assert_close(embedding(x), torch.cat([3 * x, phase.cos(), phase.sin()], 1))
    assert not list(embedding.parameters())


def test_spectral_norm_bounds_every_layer():
    """The largest singular value of each weight is 1 once the power iteration has converged."""
    model = seeded(spectral_norm=True, fourier_features=8).double().train()
    x = points(4)
    for _ in range(300):  # each forward pass in train mode is one iteration
        model(x)
    model.eval()
    for layer in model.layers():
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_a_chain_does_not_change_the_weights(spectral_norm):
    """Reading the closed form in eval mode moves no buffer and leaves no gradient."""
    model = seeded(spectral_norm=spectral_norm).double().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for _ in range(3):
            model.energy_and_gradient(points(4))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_points_are_moved_to_the_device_of_the_weights():
    """A device that every machine has: meta, which computes shapes only."""
    zero = torch.zeros(2, dtype=torch.float64)
    wrapped = to_data_units(MLP(event_shape=(2,)).to("meta"), Standardization(zero, zero + 1))
    wrapped.shift, wrapped.scale = zero, zero + 1
    energy = wrapped(torch.randn(5, 2))
    assert (energy.device.type, energy.shape) == ("meta", (5,))
