"""The perceptron f, its derivatives and chain steps as functions, by the operations of ops.py.

Notation: points x, directions w, and the loss's derivatives v in f, u in df/dx and b in the
curvature w' (d2f/dx2) w. The parameters are the weights and biases. The functions raise ValueError
for shapes or types that do not match, and MemoryError if the memory does not suffice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ebmtrain.models.perceptron.ops import Network


def needs_parameter_gradient(network: Network) -> bool:
    """Whether autograd records operations on the parameters."""
    layers = *network.weights, *network.biases
    return torch.is_grad_enabled() and any(t.requires_grad for t in layers)


def derivatives(
    x: Tensor, network: Network, order: int = 0, w: Tensor | None = None
) -> tuple[Tensor, ...]:
    """f(x), (n,); for order >= 1 also df/dx, (n, dims); for order 2 also the curvature
    w' (d2f/dx2) w, (n,), along directions w, (n, dims). All are differentiable once in the
    parameters."""
    if not needs_parameter_gradient(network):
        return torch.ops.ebmtrain.perceptron(x, *network, w, order, False)[: order + 1]
    scale, activation, frequencies, weights, biases = network
    return _Perceptron.apply(x, w, order, scale, activation, frequencies, *weights, *biases)  # type: ignore[return]


def langevin(
    x: Tensor,
    network: Network,
    noise: Tensor,
    precision: float,
    sizes: Sequence[float],
    scales: Sequence[float],
) -> Tensor:
    """The last points of Langevin steps x <- x - sizes[t] dE/dx + scales[t] noise[t], with
    E = f + precision ||x||^2 / 2.

    Args:
        x: first points, (n, dims).
        noise: standard normal, (steps, n, dims).
        sizes, scales: step sizes and standard deviations of the noise, one for each step.
    """
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
    """Points, momenta, dE/dx and f after a number of leapfrog steps for E / temperature.

    Args:
        x, momentum, gradient: first points, their momenta and dE/dx, (n, dims).
        eps: step size of each chain, (n,).
        precision: of the base measure; E = f + precision ||x||^2 / 2.
    """
    return torch.ops.ebmtrain.perceptron_leapfrog(
        x, *network, momentum, gradient, eps, precision, temperature, steps
    )


def forward(
    x: Tensor, network: Network, order: int, w: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """f, df/dx and the curvature along w, and the tape for `parameter_vjp`.

    Args:
        order: highest derivative in x, 0 to 2; results of a higher order are empty.
    """
    return torch.ops.ebmtrain.perceptron(x, *network, w, order, True)


def parameter_vjp(
    x: Tensor,
    network: Network,
    tape: Tensor,
    v: Tensor,
    u: Tensor | None = None,
    w: Tensor | None = None,
    b: Tensor | None = None,
) -> Tensor:
    """Gradient of sum_p v_p f(x_p) + u_p . df/dx(x_p) + b_p w_p' (d2f/dx2) w_p in the parameters, a
    vector: each matrix followed by its bias. The third term is omitted if w and b are None, the
    second if u is None.

    Args:
        tape: result of `forward` with the same order.
    """
    return torch.ops.ebmtrain.perceptron_weights(x, *network, v, u, w, b, tape)


def forward_and_vjp(
    x: Tensor,
    network: Network,
    v: Tensor,
    u: Tensor | None = None,
    w: Tensor | None = None,
    b: Tensor | None = None,
    slopes: Sequence[Tensor | None] = (None, None, None),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """f, df/dx and the curvature along w, as in `forward`, and the result of `parameter_vjp`.
    Each block of points goes through both passes before the next block, without a tape.

    Args:
        slopes: a, c and d, of the shapes of v, u and b. The derivatives are then v + a f,
            u + c df/dx (elementwise) and b + d w' (d2f/dx2) w. None stands for zero.
    """
    flat, *values = torch.ops.ebmtrain.perceptron_at_once(x, *network, v, u, w, b, *slopes)
    return *values, flat


class _Perceptron(torch.autograd.Function):
    """f, df/dx and the curvature along w up to an order, differentiable once in the parameters."""

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
        *values, tape = forward(x, network, order, w)
        ctx.save_for_backward(x, w, tape, frequencies, *layers)
        ctx.settings = scale, activation
        return tuple(values[: order + 1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w, tape, frequencies, *layers = ctx.saved_tensors
        half = len(layers) // 2
        scale, activation = ctx.settings
        network = Network(scale, activation, frequencies, layers[:half], layers[half:])
        v, u, b = (*gradients, None, None)[:3]
        assert v is not None
        return *[None] * 6, *_unflatten(parameter_vjp(x, network, tape, v, u, w, b), layers)


def _unflatten(flat: Tensor, layers: Sequence[Tensor]) -> list[Tensor]:
    """The result of `parameter_vjp` as tensors shaped like the weights, followed by the biases."""
    half = len(layers) // 2
    pairs = [t for pair in zip(layers[:half], layers[half:], strict=True) for t in pair]
    parts = flat.split([t.numel() for t in pairs])
    views = [part.view_as(t) for part, t in zip(parts, pairs, strict=True)]
    return [*views[::2], *views[1::2]]
