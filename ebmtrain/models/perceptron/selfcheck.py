"""TODO ebmtrain/models/perceptron/selfcheck.py."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from ebmtrain.errors import reason
from ebmtrain.models.perceptron.functional import (
    forward,
    forward_and_vjp,
    langevin,
    leapfrog,
    output,
    output_and_gradient,
    parameter_vjp,
)
from ebmtrain.models.perceptron.layout import Layout
from ebmtrain.models.perceptron.ops import ACTIVATIONS, SOURCE, Network, library
from ebmtrain.runtime import native

LOG = logging.getLogger("ebmtrain")


@cache
def self_check() -> bool:
    """Whether there is a library here, and it does what it should on a small example: an answer for
    the whole process, whatever is set for the call that happens to be the first."""
    if library() is None:
        return False
    with _default_context():
        right = all(map(_check_activation, ACTIVATIONS))
    if not right:
        native.reject(SOURCE, "compiled it does something else")
    return right


@cache
def self_check_on(device: torch.device, layout: Layout) -> bool:
    """Whether there is a kernel for this layout, and it makes the right steps of a small example.
    Where not, one warning says so. This waits for the device, once."""
    why = "it makes other steps"
    try:
        with _default_context():
            found, expected = chain_steps_on(device, layout)
            right = _allclose(found, expected)
    except Exception as error:  # of Triton, of its compilers or of the driver, or it is not there
        right, why = False, reason(error)
    if not right:
        LOG.warning(
            "warning: device.native: chains on %s are stepped by torch's operations, which are "
            "slower, and not by a kernel of Triton's (%s)", device, why,
        )  # fmt: skip
    return right


@contextmanager
def _default_context() -> Iterator[None]:
    """In here nothing is as the caller has set it: neither noted, nor inferred, nor rounded."""
    with (
        _disable_current_modes(),
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
    ):
        yield


def _allclose(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(torch.allclose(*pair, rtol=1e-3, atol=1e-3) for pair in pairs)


def _example(layout: Layout) -> tuple[Network, Tensor, Tensor]:
    """A network and two sets of points."""
    draw = torch.Generator("cpu").manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float32, device="cpu")

    activation, dims, m, units = layout
    sizes = list(zip([*units, 1], [dims + 2 * m, *units], strict=True))
    # Weights of variance 1 / inputs: sums of some hundred numbers would hide an error, or err.
    weights = [normal(*pair) / pair[1] ** 0.5 for pair in sizes]
    biases = [normal(n_out) for n_out, _ in sizes]
    network = Network(2.0, activation, normal(m, dims), weights, biases)
    return network, normal(50, dims), normal(50, dims)


def _check_activation(activation: str) -> bool:
    network, x, u = _example(Layout(activation, 3, 5, (9, 7)))
    v, w, b = x[:, 0], u.roll(1, 0), x[:, 1]
    (*first, kept), (*second, kept_second) = forward(x, network, 1), forward(x, network, 2, w)
    alone = output(x, network), *output_and_gradient(x, network)
    found = [
        *second, *first[:2], parameter_vjp(x, network, kept, v, u),
        parameter_vjp(x, network, kept_second, v, u, w, b), *alone,
        parameter_vjp(x, network, forward(x, network, 0)[-1], v),
        *_chain_steps(x, network, u, w), forward_and_vjp(x, network, v)[-1],
        *forward_and_vjp(x, network, v, u, w, b, (b, w, v)),
    ]  # fmt: skip
    f, gradient, curvature, *parts = _by_autograd(x, network, v, u, w, b)
    of_energies = _by_autograd(x, network, v, torch.zeros_like(u), w, b)[3]
    shifted = v + b * f, u + w * gradient, w, b + v * curvature
    expected = [
        f, gradient, curvature, f, gradient, *parts, f, f, gradient, of_energies,
        *_chain_steps_by_autograd(x, network, u, w), of_energies,
        f, gradient, curvature, _by_autograd(x, network, *shifted)[4],
    ]  # fmt: skip
    return _allclose(found, expected)


def chain_steps_on(
    device: torch.device, layout: Layout
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """What `_chain_steps` finds there, and what it should find."""
    network, x, u = _example(layout)
    w = u.roll(1, 0)
    scale, activation, frequencies, weights, biases = network
    moved = Network(
        scale, activation, frequencies.to(device), [t.to(device) for t in weights],
        [t.to(device) for t in biases],
    )  # fmt: skip
    found = _chain_steps(x.to(device), moved, u.to(device), w.to(device))
    return [t.cpu() for t in found], _chain_steps_by_autograd(x, network, u, w)


def _chain_steps(x: Tensor, network: Network, u: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    """Three Langevin steps, and a trajectory of two."""
    end = langevin(x, network, torch.stack([u, w, u]), 0.5, [0.01, 0.01, 0.02], [0.1, 0.1, 0.2])
    return end, *leapfrog(x, network, u, w, 0.1 * x[:, 0], 0.5, 2.0, 2)


def _chain_steps_by_autograd(
    x: Tensor, network: Network, u: Tensor, w: Tensor
) -> tuple[Tensor, ...]:
    """What `_chain_steps` is to find."""
    eps = 0.1 * x[:, :1]

    def energy_and_slope(y: Tensor) -> tuple[Tensor, Tensor]:
        f, gradient, *_ = _by_autograd(y, network, y[:, 0], y, y, y[:, 0])
        return f, gradient + 0.5 * y

    end = x
    for size, scale, noise in ((0.01, 0.1, u), (0.01, 0.1, w), (0.02, 0.2, u)):
        end = end - size * energy_and_slope(end)[1] + scale * noise
    y, momentum, slope, f = x, u, w, x[:, 0]
    for _ in range(2):
        momentum = momentum - eps / 4 * slope
        y = y + eps * momentum
        f, slope = energy_and_slope(y)
        momentum = momentum - eps / 4 * slope
    return end, y, momentum, slope, f


def _by_autograd(
    x: Tensor, network: Network, v: Tensor, u: Tensor, w: Tensor, b: Tensor
) -> tuple[Tensor, ...]:
    """f(x), df/dx, w' (d2f/dx2) w, and the results of `parameter_vjp` without and with w and b, by
    torch's operations."""
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
        (bent,) = torch.autograd.grad((gradient * w).sum(), x, create_graph=True)
        curvature = (bent * w).sum(1)
        total = (f * v).sum() + (gradient * u).sum()
        without = torch.autograd.grad(total, layers, retain_graph=True)
        with_it = torch.autograd.grad(total + (curvature * b).sum(), layers)
        flat = [torch.cat([part.flatten() for part in parts]) for parts in (without, with_it)]
    return f.detach(), gradient.detach(), curvature.detach(), *flat
