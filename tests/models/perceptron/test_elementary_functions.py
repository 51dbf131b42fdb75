"""The exponential, sine and cosine in C++ have an error of a few units in the last place over their
whole ranges: seen through networks of one unit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ebmtrain.models.perceptron.functional import derivatives
from ebmtrain.models.perceptron.ops import Network

pytestmark = pytest.mark.usefixtures("cpp")
ULP = 2.0**-24
"""The largest relative error of rounding a number to float32."""


def unit(activation: str, frequencies: list[float], first: list[float]) -> Network:
    """f(x) = a(first . [x, cos(frequencies x), sin(frequencies x)])."""
    zero = torch.zeros(1)
    weights = [torch.tensor([first]), torch.ones(1, 1)]
    return Network(1.0, activation, torch.tensor(frequencies).view(-1, 1), weights, [zero, zero])


def value(x: Tensor, network: Network) -> Tensor:
    return derivatives(x[:, None], network)[0].double()


def test_the_exponential():
    """silu(x) = x / (1 + exp(-x)), and it underflows where exp(-x) leaves the range of float32."""
    x = torch.cat([torch.linspace(-87.3, 0, 100_000), torch.linspace(-1, 30, 20_000)])
    exact = x.double() / (1 + (-x.double()).exp())
    error = value(x, unit("silu", [], [1.0])) / exact - 1
    assert error[exact != 0].abs().max() < 6 * ULP
    far = value(torch.tensor([-100.0, -1e4, 100.0, 1e4]), unit("silu", [], [1.0]))
    assert (far[:2].abs() < 1e-33).all()
    assert far[2:].tolist() == [100.0, 1e4]


@pytest.mark.parametrize(("first", "function"), [([0.0, 1.0, 0.0], torch.cos),
                                                 ([0.0, 0.0, 1.0], torch.sin)])  # fmt: skip
def test_cosine_and_sine(first, function):
    x = torch.cat([torch.linspace(-10, 10, 100_000), torch.linspace(-1e4, 1e4, 100_000)])
    exact = torch.nn.functional.leaky_relu(function(x.double()))
    error = value(x, unit("leaky_relu", [1.0], first)) - exact
    assert error.abs().max() < 4 * ULP
    assert math.isclose(float(exact.max()), 1.0, rel_tol=1e-6)
