"""What every model of configs/model promises."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
import yaml
from hydra.utils import get_object
from model_presets import IMAGES, PRESETS, SEQUENCES, event_of, preset
from torch import Tensor

from ebmtrain.config.instantiate import PARTS
from ebmtrain.evaluation.protocol import float64_copy
from ebmtrain.score import energy_and_gradient, freeze, score_and_divergence
from ebmtrain.types import Energy


@pytest.fixture
def points(name: str) -> Callable[..., Tensor]:
    """Of the shape that the preset takes here."""

    def draw(n: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(n, *event_of(name), generator=generator, dtype=dtype) * 2

    return draw


def test_returns_one_finite_energy_per_point(model, points, dtype):
    model.to(dtype)
    assert isinstance(model, Energy)
    for n in (1, 7):
        e = model(points(n, dtype))
        assert e.shape == (n,)
        assert e.dtype == dtype
        assert e.isfinite().all()


def test_closed_form_score_is_that_of_autograd(model, points, name, dtype):
    """What chains see is (E(x), dE/dx), at float32's rounding and at float64's; of images,
    sequences and noise levels, whose networks leave it to autograd, too."""
    by_autograd = name in IMAGES | SEQUENCES or name.startswith("film")
    assert hasattr(model, "energy_and_gradient") is not by_autograd
    model.to(dtype).eval()
    x = points(50, dtype).requires_grad_()
    e = model(x)
    (gradient,) = torch.autograd.grad(e.sum(), x)
    with torch.no_grad():
        closed_e, closed_gradient = energy_and_gradient(model, x)
    assert closed_gradient.shape == x.shape
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(closed_e, e.detach(), rtol=tolerance, atol=tolerance)
    size = gradient.abs().max().item()
    torch.testing.assert_close(
        closed_gradient, gradient, rtol=tolerance, atol=tolerance * max(size, 1)
    )


def test_points_of_a_batch_are_independent(model, points):
    """E(cat[x, y])[:n] = E(x), in train mode."""
    model.train()
    x, y = points(5), 10 * points(9, seed=1)
    torch.testing.assert_close(model(torch.cat([x, y]))[:5], model(x), rtol=1e-5, atol=1e-5)


def test_energy_is_deterministic_and_does_not_change_its_input(model, points):
    x = points(8)
    before, state = x.clone(), torch.get_rng_state()
    first, second = model(x), model(x)
    energy_and_gradient(model, x)
    assert torch.equal(first, second)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_has_second_derivatives(model, points, name):
    """Score matching of any kind needs tr(d2E), and it must not be 0 all over."""
    if name == "ising":
        pytest.skip("of states alone: no site interacts with itself")
    _, divergence = score_and_divergence(model, points(20))
    assert divergence.isfinite().all()
    assert (divergence != 0).any()


def test_the_state_dict_determines_the_energy(model, points, name):
    """A state_dict carried to a model of other random numbers makes the same energies."""
    other = preset(name)
    for tensor in other.state_dict().values():
        tensor.normal_(generator=torch.Generator().manual_seed(1))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(points(8)), model(points(8)))


def test_preset_names_every_option(name):
    """First a line to list, then a line to type; each option, and no name that YAML 1.1 reads as a
    truth value."""
    text = (PRESETS / f"{name}.yaml").read_text()
    head, usage = text.splitlines()[:2]
    assert head.startswith("# ")
    assert usage.startswith(f"#   ebmtrain model={name}")
    config = yaml.safe_load(text)
    parameters = inspect.signature(get_object(config["_target_"])).parameters
    assert (
        set(config) - {"_target_"} == set(parameters) - PARTS["model"].supplied
    )  # the builder passes these


def test_a_frozen_model_has_the_same_energies_and_scores(model, points):
    """In a chain its parameters take no gradient, and what it keeps stays as it is."""
    model.train()
    x, before = points(5), {k: v.clone() for k, v in model.state_dict().items()}
    with freeze(model):
        e, gradient = energy_and_gradient(model, x)
    assert e.grad_fn is None
    assert gradient.grad_fn is None
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_exact_copy_is_the_model_in_float64(model, points):
    """What evaluations use; the model itself stays in its type."""
    copy = float64_copy(model)
    x = points(5, torch.float64)
    assert copy(x).dtype == torch.float64
    torch.testing.assert_close(model(x.float()).double(), copy(x), rtol=1e-4, atol=1e-4)
    assert {p.dtype for p in model.parameters()} <= {torch.float32}


@pytest.mark.parametrize("event", [(3,), (2, 2), (1, 4, 4)])
@pytest.mark.parametrize("which", ["mlp", "gaussian", "noise_conditional_mlp"])
def test_trainable_models_accept_events_of_any_shape(which, event):
    model = preset(which, event_shape=event)
    x = torch.randn(6, *event, generator=torch.Generator().manual_seed(0))
    e, gradient = model.energy_and_gradient(x)
    assert model(x).shape == e.shape == (6,)
    assert gradient.shape == x.shape
