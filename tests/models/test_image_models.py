"""The networks of images: any channels, any size, and what they must not do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ebmtrain.models.convolutional import Convolutional
from ebmtrain.models.residual import Residual

MODELS: dict[str, Any] = {"conv": Convolutional, "resnet": Residual}


def seeded(name: str, event: tuple[int, ...], **options: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = {"widths": [4, 6, 8, 10], "base_std": None}
        model = MODELS[name](event_shape=event, **(plain | options))
        for layer in model.modules():  # a bias of 0 would hide a bias left out
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                nn.init.normal_(layer.bias)
    return model.double()


def images(n: int, *event: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, *event, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("event", [(8, 8), (1, 8, 8), (3, 28, 28), (5, 9, 23), (3, 32, 32)])
@pytest.mark.parametrize("name", MODELS)
def test_energy_depends_on_every_pixel(name, event):
    """Also where the size cannot be halved three times without a remainder."""
    model, x = seeded(name, event), images(2, *event).requires_grad_()
    e = model(x)
    assert e.shape == (2,)
    (gradient,) = torch.autograd.grad(e.sum(), x)
    assert (gradient != 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_gray_images_need_no_channel_axis(name):
    x = images(4, 8, 9)
    gray, one = seeded(name, (8, 9)), seeded(name, (1, 8, 9))
    assert torch.equal(gray(x), one(x[:, None]))


@pytest.mark.parametrize("name", MODELS)
def test_base_measure_is_added(name):
    x = images(4, 2, 8, 8)
    difference = seeded(name, (2, 8, 8), base_std=1.5)(x) - seeded(name, (2, 8, 8))(x)
    torch.testing.assert_close(difference, x.square().sum((1, 2, 3)) / (2 * 1.5**2))


@pytest.mark.parametrize("name", MODELS)
def test_derivatives_against_finite_differences(name):
    model = seeded(name, (8, 8), widths=[2, 3])
    x = images(1, 8, 8).requires_grad_()
    assert torch.autograd.gradcheck(model, x)
    assert torch.autograd.gradgradcheck(model, x)


@pytest.mark.parametrize("name", MODELS)
def test_initial_energy_is_of_order_one(name):
    """Weights of variance 1 / inputs: neither lost nor blown up on the way through the layers."""
    e = seeded(name, (3, 16, 16), widths=[32, 64, 128])(images(200, 3, 16, 16))
    assert 0.01 < e.std().item() < 10


def test_conv_is_its_formula():
    """3x3, then 4x4 at stride 2, of the widths that are given; a linear readout of all places."""
    model = Convolutional(event_shape=(3, 32, 32))
    found = [(c.in_channels, c.out_channels, c.kernel_size, c.stride)
             for c in model.modules() if isinstance(c, nn.Conv2d)]  # fmt: skip
    assert found == [(3, 32, (3, 3), (1, 1)), (32, 64, (4, 4), (2, 2)),
                     (64, 128, (4, 4), (2, 2)), (128, 256, (4, 4), (2, 2))]  # fmt: skip
    assert model.output.in_features == 256 * 4 * 4


def downsample(h: Tensor) -> Tensor:
    """Means over 2x2 pixels, at the edges over those that are there."""
    rows, columns = (range(0, n, 2) for n in h.shape[2:])
    found = [[h[:, :, i : i + 2, j : j + 2].mean((2, 3)) for j in columns] for i in rows]
    return torch.stack([torch.stack(row, 2) for row in found], 2)


@pytest.mark.parametrize("event", [(2, 16, 24), (2, 9, 19)])
def test_resnet_is_its_formula(event):
    """Written out: h + B(silu(A(silu(h)))), halved, and in the end w . sum over places of silu."""
    model, x = seeded("resnet", event, widths=[4, 4, 6]), images(3, *event)
    h = model.first(x)
    for block, narrow in zip(model.blocks, (True, True, False), strict=True):
        kept = h if narrow else block.across(h)
        h = downsample(kept + block.outer(silu(block.inner(silu(h)))))
    w, b = model.output.weight[0], model.output.bias
    torch.testing.assert_close(model(x), silu(h).sum((2, 3)) @ w + b)


@pytest.mark.parametrize("name", MODELS)
def test_initial_weights_preserve_the_variance(name):
    """1 / (inputs of one unit), within 4 standard errors of a variance of normal numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[name](event_shape=(3, 16, 16), widths=[16, 32, 64])
    for layer in (m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
        inputs, n = layer.weight[0].numel(), layer.weight.numel()
        found = layer.weight.square().mean().item() * inputs
        assert found == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
        assert layer.bias is None or not layer.bias.any()


def test_spectral_norm_bounds_every_layer():
    """As a matrix, each weight has the largest singular value 1 once the iteration converged."""
    model = seeded("resnet", (2, 6, 6), spectral_norm=True).train()
    plain = seeded("resnet", (2, 6, 6))
    x = images(3, 2, 6, 6)
    for _ in range(300):  # each forward pass in train mode is one iteration
        model(x)
    model.eval()
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in plain.modules())
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(
            1, abs=1e-3
        )


def test_no_batch_norm_and_no_dropout():
    for model in (seeded("conv", (8, 8)), seeded("resnet", (8, 8))):
        kinds = {type(m).__name__ for m in model.modules()}
        assert not {k for k in kinds if "Norm" in k or "Dropout" in k}


@pytest.mark.parametrize(
    ("words", "saying"),
    [
        ("model=conv", "model: model=conv takes images, .* got (2,): choose model=mlp"),
        ("model=resnet", "model: model=resnet takes images, .* got (2,): choose model=mlp"),
        ("model=conv model.widths=[]", "model.widths "),
        ("model=resnet model.widths=[4,0]", "model.widths"),
    ],
)
def test_events_that_are_no_images_are_refused_in_one_line(command, words, saying):
    outcome = command("check", *words.split())
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    first, _, second = saying.partition(" .* ")
    assert first in outcome.err
    assert second in outcome.err


@pytest.mark.parametrize(
    ("event", "widths"), [((5, 9), "4,6,8"), ((4, 2), "4,6"), ((1, 1, 7), "4")]
)
def test_too_small_images_for_conv_are_refused_with_valid_widths(event, widths):
    with pytest.raises(ValueError, match=rf"model.widths=\[{widths}\]$"):
        seeded("conv", event)
    fitting = seeded("conv", event, widths=[int(w) for w in widths.split(",")])
    assert fitting(images(2, *event)).shape == (2,)
    assert seeded("resnet", event)(images(2, *event)).shape == (2,)
