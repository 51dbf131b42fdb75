"""Compares the native operations with autograd on a small network before they are used."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from ebmtrain.errors import reason
from ebmtrain.models.perceptron.functional import (
    derivatives,
    forward,
    forward_and_vjp,
    langevin,
    leapfrog,
    parameter_vjp,
)
from ebmtrain.models.perceptron.layout import Layout
from ebmtrain.models.perceptron.ops import ACTIVATIONS, SOURCE, Network
from ebmtrain.runtime import native
from ebmtrain.runtime.torch_private import disable_dispatch_modes

LOG = logging.getLogger("ebmtrain")


@cache
def self_check() -> bool:
    """Whether the C++ library exists and agrees with autograd on a small network.

    Computed once in a process, in torch's default context. A library that disagrees is rejected:
    see `native.rejections`.
    """
    if native.library(SOURCE) is None:
        return False
    with _default_context():
        agrees = all(map(_check_activation, ACTIVATIONS))
    if not agrees:
        native.reject(SOURCE, "the compiled library disagrees with autograd on a small network")
    return agrees


@cache
def self_check_on(device: torch.device, layout: Layout) -> bool:
    """Whether the GPU kernel for this layout compiles and agrees with autograd on a small network.

    Logs a warning otherwise. Computed once for each layout; it waits for the device.
    """
    why = "its steps disagree with autograd"
    try:
        with _default_context():
            actual, expected = _chain_steps_on(device, layout)
            agrees = _allclose(actual, expected)
    except Exception as error:  # any, of Triton, its compilers or the driver, or no Triton
        agrees, why = False, reason(error)
    if not agrees:
        LOG.warning(
            "warning: device.native: chains on %s are stepped by torch's operations, which are "
            "slower, and not by a kernel of Triton's (%s)", device, why,
        )  # fmt: skip
    return agrees


@contextmanager
def _default_context() -> Iterator[None]:
    """Torch's default context: without the caller's dispatch modes, inference mode, gradients and
    autocast."""
    with (
        disable_dispatch_modes(),
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
    ):
        yield


def _allclose(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    pairs = zip(actual, expected, strict=True)
    return all(torch.allclose(*pair, rtol=1e-3, atol=1e-3) for pair in pairs)


def _example(layout: Layout) -> tuple[Network, Tensor, Tensor]:
    """A network with random parameters and two sets of 50 random points."""
    generator = torch.Generator("cpu").manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float32, device="cpu")

    activation, dims, m, units = layout
    sizes = list(zip([*units, 1], [dims + 2 * m, *units], strict=True))
    # Variance 1 / inputs: larger sums would hide an error, or exceed the tolerance by rounding.
    weights = [normal(*pair) / pair[1] ** 0.5 for pair in sizes]
    biases = [normal(n_out) for n_out, _ in sizes]
    network = Network(2.0, activation, normal(m, dims), weights, biases)
    return network, normal(50, dims), normal(50, dims)


def _check_activation(activation: str) -> bool:
    """Whether all operations agree with autograd for this activation."""
    network, x, u = _example(Layout(activation, 3, 5, (9, 7)))
    v, w, b = x[:, 0], u.roll(1, 0), x[:, 1]
    (*first, tape), (*second, tape_second) = forward(x, network, 1), forward(x, network, 2, w)
    without_tape = *derivatives(x, network), *derivatives(x, network, 1)
    actual = [
        *second, *first[:2], parameter_vjp(x, network, tape, v, u),
        parameter_vjp(x, network, tape_second, v, u, w, b), *without_tape,
        parameter_vjp(x, network, forward(x, network, 0)[-1], v),
        *_chain_steps(x, network, u, w), forward_and_vjp(x, network, v)[-1],
        *forward_and_vjp(x, network, v, u, w, b, (b, w, v)),
    ]  # fmt: skip
    f, gradient, curvature, *vjps = _by_autograd(x, network, v, u, w, b)
    energy_vjp = _by_autograd(x, network, v, torch.zeros_like(u), w, b)[3]
    shifted = v + b * f, u + w * gradient, w, b + v * curvature
    expected = [
        f, gradient, curvature, f, gradient, *vjps, f, f, gradient, energy_vjp,
        *_chain_steps_by_autograd(x, network, u, w), energy_vjp,
        f, gradient, curvature, _by_autograd(x, network, *shifted)[4],
    ]  # fmt: skip
    return _allclose(actual, expected)


def _chain_steps_on(
    device: torch.device, layout: Layout
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The results of `_chain_steps` on this device, and the expected results by autograd."""
    network, x, u = _example(layout)
    w = u.roll(1, 0)
    scale, activation, frequencies, weights, biases = network
    on_device = Network(
        scale, activation, frequencies.to(device), [t.to(device) for t in weights],
        [t.to(device) for t in biases],
    )  # fmt: skip
    actual = _chain_steps(x.to(device), on_device, u.to(device), w.to(device))
    return [t.cpu() for t in actual], _chain_steps_by_autograd(x, network, u, w)


def _chain_steps(x: Tensor, network: Network, u: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    """The results of three Langevin steps and of two leapfrog steps."""
    end = langevin(x, network, torch.stack([u, w, u]), 0.5, [0.01, 0.01, 0.02], [0.1, 0.1, 0.2])
    return end, *leapfrog(x, network, u, w, 0.1 * x[:, 0], 0.5, 2.0, 2)


def _chain_steps_by_autograd(
    x: Tensor, network: Network, u: Tensor, w: Tensor
) -> tuple[Tensor, ...]:
    """The results of `_chain_steps`, by autograd."""
    eps = 0.1 * x[:, :1]

    def f_and_gradient(y: Tensor) -> tuple[Tensor, Tensor]:
        f, gradient, *_ = _by_autograd(y, network, y[:, 0], y, y, y[:, 0])
        return f, gradient + 0.5 * y

    end = x
    for size, scale, noise in ((0.01, 0.1, u), (0.01, 0.1, w), (0.02, 0.2, u)):
        end = end - size * f_and_gradient(end)[1] + scale * noise
    y, momentum, gradient, f = x, u, w, x[:, 0]
    for _ in range(2):
        momentum = momentum - eps / 4 * gradient
        y = y + eps * momentum
        f, gradient = f_and_gradient(y)
        momentum = momentum - eps / 4 * gradient
    return end, y, momentum, gradient, f


def _by_autograd(
    x: Tensor, network: Network, v: Tensor, u: Tensor, w: Tensor, b: Tensor
) -> tuple[Tensor, ...]:
    """f(x), df/dx, w' (d2f/dx2) w, and the results of `parameter_vjp` without and with w and b, by
    autograd."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        pairs = zip(network.weights, network.biases, strict=True)
        layers = [t.detach().requires_grad_() for pair in pairs for t in pair]
        phase = x @ network.frequencies.T
        h = torch.cat([network.scale * x, phase.cos(), phase.sin()], 1)
        activation = getattr(torch.nn.functional, network.activation)
        *hidden, (last, last_bias) = zip(layers[::2], layers[1::2], strict=True)
        for weight, bias in hidden:
            h = activation(h @ weight.T + bias)
        f = (h @ last.T + last_bias)[:, 0]
        (gradient,) = torch.autograd.grad(f.sum(), x, create_graph=True)
        (hessian_w,) = torch.autograd.grad((gradient * w).sum(), x, create_graph=True)
        curvature = (hessian_w * w).sum(1)
        total = (f * v).sum() + (gradient * u).sum()
        first_order = torch.autograd.grad(total, layers, retain_graph=True)
        second_order = torch.autograd.grad(total + (curvature * b).sum(), layers)
        vjps = [torch.cat([t.flatten() for t in order]) for order in (first_order, second_order)]
    return f.detach(), gradient.detach(), curvature.detach(), *vjps
