"""TODO ebmtrain/models/perceptron/functional.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ebmtrain.models.perceptron.ops import Network


def needs_parameter_gradient(network: Network) -> bool:
    """Whether a derivative with respect to weights may be asked for."""
    layers = *network.weights, *network.biases
    return torch.is_grad_enabled() and any(t.requires_grad for t in layers)


def output(x: Tensor, network: Network) -> Tensor:
    """f(x), (n,), differentiable in weights and biases, once.

    Raises:
        MemoryError: there is none left.
    """
    if not needs_parameter_gradient(network):
        return torch.ops.ebmtrain.perceptron(x, *network, None, 0, False)[0]
    return _differentiable(x, network, 0)[0]


def output_and_gradient(x: Tensor, network: Network) -> tuple[Tensor, Tensor]:
    """f(x), (n,), and df/dx, (n, dims), both differentiable in weights and biases, once.

    Raises:
        MemoryError: there is none left.
    """
    if not needs_parameter_gradient(network):
        return torch.ops.ebmtrain.perceptron(x, *network, None, 1, False)[:2]
    f, gradient = _differentiable(x, network, 1)
    return f, gradient


def output_and_curvature(x: Tensor, w: Tensor, network: Network) -> tuple[Tensor, Tensor, Tensor]:
    """f(x), (n,), df/dx, (n, dims), and w' (d2f/dx2) w, (n,), of directions w, (n, dims): all
    differentiable in weights and biases, once.

    Raises:
        MemoryError: there is none left.
    """
    if not needs_parameter_gradient(network):
        return torch.ops.ebmtrain.perceptron(x, *network, w, 2, False)[:3]
    f, gradient, curvature = _differentiable(x, network, 2, w)
    return f, gradient, curvature


def _differentiable(
    x: Tensor, network: Network, order: int, w: Tensor | None = None
) -> tuple[Tensor, ...]:
    scale, activation, frequencies, weights, biases = network
    return Perceptron.apply(x, w, order, scale, activation, frequencies, *weights, *biases)  # type: ignore[return]


def langevin(
    x: Tensor,
    network: Network,
    noise: Tensor,
    precision: float,
    sizes: Sequence[float],
    scales: Sequence[float],
) -> Tensor:
    """Where x <- x - sizes[t] dE/dx + scales[t] noise[t] ends, E = f + precision ||x||^2 / 2."""
    return torch.ops.ebmtrain.perceptron_langevin(x, *network, noise, precision, sizes, scales)


def leapfrog(
    x: Tensor,
    network: Network,
    momentum: Tensor,
    gradient: Tensor,
    eps: Tensor,
    precision: float,
    temperature: float,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points, momenta, dE/dx and f after that many leapfrog steps of E / temperature."""
    return torch.ops.ebmtrain.perceptron_leapfrog(
        x, *network, momentum, gradient, eps, precision, temperature, steps
    )


def forward(
    x: Tensor, network: Network, order: int, w: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """f, df/dx and the curvature along w, of which those beyond the order are empty, and what
    `parameter_vjp` needs of that."""
    return torch.ops.ebmtrain.perceptron(x, *network, w, order, True)


def parameter_vjp(
    x: Tensor,
    network: Network,
    kept: Tensor,
    v: Tensor,
    u: Tensor | None = None,
    w: Tensor | None = None,
    b: Tensor | None = None,
) -> Tensor:
    """The gradient of sum_p v_p f(x_p) + u_p . df/dx(x_p) + b_p w_p' (d2f/dx2) w_p with respect to
    weights and biases, flat: each matrix and its bias after it. Without the third sum where w and b
    are None, without the second as well where u is.

    Args:
        kept: of the way there with as many derivatives: see `forward`.
    """
    return torch.ops.ebmtrain.perceptron_weights(x, *network, v, u, w, b, kept)


def forward_and_vjp(
    x: Tensor,
    network: Network,
    v: Tensor,
    u: Tensor | None = None,
    w: Tensor | None = None,
    b: Tensor | None = None,
    slopes: Sequence[Tensor | None] = (None, None, None),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """f, df/dx and the curvature along w, as `forward` returns them, and the result of
    `parameter_vjp`. Each block of points goes through both passes before the next block.

    Args:
        slopes: a, c and d, like v, u and b, where these are v + a f, u + c df/dx (number by number)
            and b + d w' (d2f/dx2) w; None: they are as given.
    """
    flat, *found = torch.ops.ebmtrain.perceptron_at_once(x, *network, v, u, w, b, *slopes)
    return *found, flat


class Perceptron(torch.autograd.Function):
    """f, and after it, for an order of 1, df/dx, and, for one of 2, the curvature along w."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor | None,
        order: int,
        scale: float,
        activation: str,
        frequencies: Tensor,
        *layers: Tensor,
    ) -> tuple[Tensor, ...]:
        half = len(layers) // 2
        network = Network(scale, activation, frequencies, layers[:half], layers[half:])
        *found, kept = forward(x, network, order, w)
        ctx.save_for_backward(x, w, kept, frequencies, *layers)
        ctx.settings = scale, activation
        return tuple(found[: order + 1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w, kept, frequencies, *layers = ctx.saved_tensors
        half = len(layers) // 2
        scale, activation = ctx.settings
        network = Network(scale, activation, frequencies, layers[:half], layers[half:])
        v, u, b = (*gradients, None, None)[:3]
        assert v is not None
        return *[None] * 6, *_unflatten(parameter_vjp(x, network, kept, v, u, w, b), layers)


def _unflatten(flat: Tensor, layers: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of `parameter_vjp` in parts like weights, followed by parts like biases."""
    half = len(layers) // 2
    pairs = [t for pair in zip(layers[:half], layers[half:], strict=True) for t in pair]
    parts = flat.split([t.numel() for t in pairs])
    found = [part.view_as(t) for part, t in zip(parts, pairs, strict=True)]
    return [*found[::2], *found[1::2]]


def attach_gradient(loss: Tensor, flat: Tensor, network: Network) -> Tensor:
    """The loss, shape (), differentiable once in weights and biases.

    Args:
        flat: its gradient with respect to these, as of `parameter_vjp`.
    """
    return _AttachGradient.apply(loss, flat, *network.weights, *network.biases)  # type: ignore[return]


class _AttachGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, flat: Tensor, *layers: Tensor) -> Tensor:
        ctx.save_for_backward(flat, *layers)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, *layers = ctx.saved_tensors
        return None, None, *_unflatten(gradients[0] * flat, layers)
