"""Quadratic losses of perceptrons, with their gradient in the same pass, against autograd."""

import copy

import pytest
import torch
from test_perceptron import SIZES, model, points
from torch import Generator, Tensor, nn

from ebmtrain.methods.contrast import contrastive_loss
from ebmtrain.methods.denoising_score_matching import DenoisingScoreMatching
from ebmtrain.methods.sliced_score_matching import SlicedScoreMatching
from ebmtrain.models.mlp import MLP
from ebmtrain.models.perceptron import dispatch as perceptron
from ebmtrain.score import count_evaluations
from ebmtrain.types import Batch, Tensors

pytestmark = pytest.mark.usefixtures("cpp")


class Autograd(nn.Module):
    """The same energy without any closed form."""

    def __init__(self, energy: nn.Module) -> None:
        super().__init__()
        self.energy = energy

    def forward(self, x: Tensor) -> Tensor:
        return self.energy(x.requires_grad_(x.requires_grad))


def _contrastive(energy, x: Tensor, alpha: float, weighted: bool) -> tuple[Tensor, Tensors]:
    negatives = x.flip(0).repeat(2, 1)[1:] + 0.3
    weights = torch.linspace(0.5, 2.0, len(negatives)).to(x).softmax(0) if weighted else None
    return contrastive_loss(energy, x, negatives, alpha, weights)


def _by(method):
    def loss(energy, x: Tensor) -> tuple[Tensor, Tensors]:
        # Random numbers of float32 in both types.
        energy_type = next(energy.parameters()).dtype
        drawn = Generator().manual_seed(5)
        x32 = Batch(x.float())
        if energy_type == torch.float32:
            return method.loss(energy, x32, {}, drawn)[:2]
        with pytest.MonkeyPatch.context() as patch:
            normal = Tensor.normal_
            patch.setattr(
                Tensor, "normal_",
                lambda t, *, generator: t.copy_(normal(t.float(), generator=generator)),
            )  # fmt: skip
            return method.loss(energy, Batch(x.double()), {}, drawn)[:2]

    return loss


LOSSES = {
    "contrastive": lambda energy, x: _contrastive(energy, x, 0.0, False),
    "regularized": lambda energy, x: _contrastive(energy, x, 0.1, False),
    "weighted": lambda energy, x: _contrastive(energy, x, 0.1, True),
    "dsm": _by(DenoisingScoreMatching(sigma=0.3)),
    "ssm": _by(SlicedScoreMatching()),
    "ssm, two directions": _by(SlicedScoreMatching(n_projections=2)),
    "ssm, with variance": _by(SlicedScoreMatching(variance_reduced=False)),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """C++ for the small networks of tests as well."""
    monkeypatch.setattr(perceptron, "MIN_MULTIPLY_ADDS", 0)


def gradient_of(energy: nn.Module, value: Tensor) -> Tensor:
    parameters = list(energy.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([t.flatten().double() for t in found])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("base_std", [None, 1.3])
@pytest.mark.parametrize("name", LOSSES)
def test_value_metrics_and_gradient_against_float64(name, base_std, threads):
    torch.set_num_threads(threads)
    for sizes in SIZES:
        energy, x = model(sizes, "silu"), points(sizes)
        energy.base_precision = 0.0 if base_std is None else base_std**-2
        exact = Autograd(copy.deepcopy(energy).double())
        value, metrics = LOSSES[name](energy, x)
        expected, expected_metrics = LOSSES[name](exact, x.double())
        torch.testing.assert_close(value.double(), expected, rtol=2e-4, atol=2e-4)
        assert list(metrics) == list(expected_metrics)
        for key, number in metrics.items():
            assert not number.requires_grad
            torch.testing.assert_close(number.double(), expected_metrics[key], rtol=2e-4, atol=2e-4)
        found, wanted = gradient_of(energy, value), gradient_of(exact, expected)
        assert (found - wanted).norm() <= 2e-4 * wanted.norm() + 1e-5, sizes


@pytest.mark.parametrize("name", [n for n in LOSSES if n != "ssm, with variance"])
def test_one_pass_and_no_second_derivative(name):
    energy, x = model(SIZES[-1], "silu"), points(SIZES[-1])
    value, _ = LOSSES[name](energy, x)
    assert "AttachGradient" in str(value.grad_fn)
    parameters = list(energy.parameters())
    (first, *_) = torch.autograd.grad(3 * value, parameters, create_graph=True, retain_graph=True)
    (once, *_) = torch.autograd.grad(value, parameters, retain_graph=True)
    torch.testing.assert_close(first.detach(), 3 * once)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(first.sum(), parameters)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("change", ["float64", "tanh", "classes", "frozen"])
def test_left_to_autograd(name, change):
    options = {"tanh": {"activation": "tanh"}, "classes": {"classes": 3}}.get(change, {})
    energy = MLP(event_shape=(2,), width=9, fourier_features=4, **options)
    x = torch.randn(20, 2, generator=Generator().manual_seed(0))
    if change == "float64":
        energy, x = energy.double(), x.double()
    if change == "frozen":
        energy.requires_grad_(False)
        assert not LOSSES[name](energy, x)[0].requires_grad
        return
    value, _ = LOSSES[name](energy, x)
    assert "AttachGradient" not in str(value.grad_fn)
    expected, _ = LOSSES[name](Autograd(energy), x)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient_of(energy, value), gradient_of(energy, expected))


def test_small_networks_take_autograd_for_energies(monkeypatch):
    monkeypatch.setattr(perceptron, "MIN_MULTIPLY_ADDS", 10**9)
    energy, x = model(SIZES[-1], "silu"), points(SIZES[-1])
    assert "AttachGradient" not in str(LOSSES["contrastive"](energy, x)[0].grad_fn)
    assert "AttachGradient" in str(LOSSES["dsm"](energy, x)[0].grad_fn)


@pytest.mark.parametrize("name", LOSSES)
def test_evaluations_are_those_of_autograd(name):
    energy, x = model(SIZES[-1], "silu"), points(SIZES[-1])
    with count_evaluations(energy) as found:
        LOSSES[name](energy, x)
    assert found.points == (3 * len(x) - 1 if name in list(LOSSES)[:3] else len(x))


def test_the_order_of_blocks_does_not_change_the_result():
    energy, x = model(SIZES[-1], "silu"), points(SIZES[-1])
    first = gradient_of(energy, LOSSES["dsm"](energy, x)[0])
    for _ in range(3):
        assert torch.equal(first, gradient_of(energy, LOSSES["dsm"](energy, x)[0]))
