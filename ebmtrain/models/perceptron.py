"""The perceptron of mlp.py in C++, with its gradients and steps of chains: for float32 on the CPU.
On NVIDIA's GPUs steps of chains alone, in one kernel.

What `MLP` writes out layer by layer, in less time: what lies between the layers stays in the cache,
and nothing waits for the launch of one operation after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import _disable_current_modes

from ebmtrain import native
from ebmtrain.errors import reason
from ebmtrain.models.perceptron_gpu import Layout
from ebmtrain.models.perceptron_library import ACTIVATIONS, SOURCE, Network, library

LOG = logging.getLogger("ebmtrain")
FEWEST = 500_000  # products of a weight and a number, below which autograd's own way is the shorter
LARGEST = 2**18  # numbers of a matrix, beyond which it leaves the cache before the next points come


def knows(x: Tensor, network: Network) -> bool:
    """Whether C++ is to be used for these, and can be: no derivative in x will be asked for."""
    return (
        x.device.type == "cpu"
        and plain(x, network)
        and max(w.numel() for w in network.weights) <= LARGEST
        and agrees()
    )


def knows_steps(x: Tensor, network: Network) -> bool:
    """Whether `langevin` and `leapfrog` are to be used for these, and can be."""
    if x.device.type != "cuda":
        return knows(x, network)
    layout = Layout.of(x, network)
    return (
        plain(x, network)
        and layout.fits(shared_memory_of(x.device))
        and agrees_on(x.device, layout)
    )


def shared_memory_of(device: torch.device) -> int:
    """Of a program on this GPU, in bytes; 0 where torch does not tell, as of those of AMD."""
    there = torch.cuda.get_device_properties(device)
    return getattr(there, "shared_memory_per_block_optin", 0)


def plain(x: Tensor, network: Network) -> bool:
    """Whether it is wanted, and these are float32 that no derivative in x is asked of."""
    return (
        native.wanted()
        and network.activation in ACTIVATIONS
        and all(t.dtype == torch.float32 for t in (x, network.frequencies, network.weights[0]))
        and not (x.requires_grad and torch.is_grad_enabled())
        and torch.autograd.forward_ad._current_level < 0
        and torch._C._functorch.maybe_current_level() is None  # type: ignore[attr-defined]
    )


def pays(x: Tensor, network: Network) -> bool:
    """Whether `output` is the faster, also where its derivative is asked for."""
    return not learns(network) or len(x) * sum(w.numel() for w in network.weights) >= FEWEST


def learns(network: Network) -> bool:
    """Whether a derivative with respect to weights may be asked for."""
    layers = *network.weights, *network.biases
    return torch.is_grad_enabled() and any(t.requires_grad for t in layers)


@cache
def agrees() -> bool:
    """Whether there is a library here, and it does what it should on a small example: an answer for
    the whole process, whatever is set for the call that happens to be the first."""
    if library() is None:
        return False
    with undisturbed():
        right = all(map(agrees_for, ACTIVATIONS))
    if not right:
        native.refuse(SOURCE, "compiled it does something else")
    return right


@cache
def agrees_on(device: torch.device, layout: Layout) -> bool:
    """Whether there is a kernel for this layout, and it makes the right steps of a small example.
    Where not, one warning says so. This waits for the device, once."""
    why = "it makes other steps"
    try:
        with undisturbed():
            found, expected = steps_on(device, layout)
            right = alike(found, expected)
    except Exception as error:  # of Triton, of its compilers or of the driver, or it is not there
        right, why = False, reason(error)
    if not right:
        LOG.warning(
            "warning: device.native: chains on %s are stepped by torch's operations, which are "
            "slower, and not by a kernel of Triton's (%s)", device, why,
        )  # fmt: skip
    return right


@contextmanager
def undisturbed() -> Iterator[None]:
    """In here nothing is as the caller has set it: neither noted, nor inferred, nor rounded."""
    with (
        _disable_current_modes(),
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
    ):
        yield


def alike(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(torch.allclose(*pair, rtol=1e-3, atol=1e-3) for pair in pairs)


def example(layout: Layout) -> tuple[Network, Tensor, Tensor]:
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


def agrees_for(activation: str) -> bool:
    network, x, u = example(Layout(activation, 3, 5, (9, 7)))
    v, w, b = x[:, 0], u.roll(1, 0), x[:, 1]
    (*first, kept), (*second, kept_second) = there(x, network, 1), there(x, network, 2, w)
    alone = output(x, network), *output_and_gradient(x, network)
    found = [
        *second, *first[:2], of_weights(x, network, kept, v, u),
        of_weights(x, network, kept_second, v, u, w, b), *alone,
        of_weights(x, network, there(x, network, 0)[-1], v),
        *steps(x, network, u, w), at_once(x, network, v)[-1],
        *at_once(x, network, v, u, w, b, (b, w, v)),
    ]  # fmt: skip
    f, gradient, curvature, *parts = by_autograd(x, network, v, u, w, b)
    of_energies = by_autograd(x, network, v, torch.zeros_like(u), w, b)[3]
    shifted = v + b * f, u + w * gradient, w, b + v * curvature
    expected = [
        f, gradient, curvature, f, gradient, *parts, f, f, gradient, of_energies,
        *steps_by_autograd(x, network, u, w), of_energies,
        f, gradient, curvature, by_autograd(x, network, *shifted)[4],
    ]  # fmt: skip
    return alike(found, expected)


def steps_on(device: torch.device, layout: Layout) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """What `steps` finds there, and what it should find."""
    network, x, u = example(layout)
    w = u.roll(1, 0)
    scale, activation, frequencies, weights, biases = network
    moved = Network(
        scale, activation, frequencies.to(device), [t.to(device) for t in weights],
        [t.to(device) for t in biases],
    )  # fmt: skip
    found = steps(x.to(device), moved, u.to(device), w.to(device))
    return [t.cpu() for t in found], steps_by_autograd(x, network, u, w)


def steps(x: Tensor, network: Network, u: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    """Three Langevin steps, and a trajectory of two."""
    end = langevin(x, network, torch.stack([u, w, u]), 0.5, [0.01, 0.01, 0.02], [0.1, 0.1, 0.2])
    return end, *leapfrog(x, network, u, w, 0.1 * x[:, 0], 0.5, 2.0, 2)


def steps_by_autograd(x: Tensor, network: Network, u: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    """What `steps` is to find."""
    eps = 0.1 * x[:, :1]

    def energy_and_slope(y: Tensor) -> tuple[Tensor, Tensor]:
        f, gradient, *_ = by_autograd(y, network, y[:, 0], y, y, y[:, 0])
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


def by_autograd(
    x: Tensor, network: Network, v: Tensor, u: Tensor, w: Tensor, b: Tensor
) -> tuple[Tensor, ...]:
    """f(x), df/dx, w' (d2f/dx2) w, and what `of_weights` finds without and with w and b: in torch's
    operations."""
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


def output(x: Tensor, network: Network) -> Tensor:
    """f(x), (n,), differentiable in weights and biases, once.

    Raises:
        MemoryError: there is none left.
    """
    if not learns(network):
        return torch.ops.ebmtrain.perceptron(x, *network, None, 0, False)[0]
    return differentiable(x, network, 0)[0]


def output_and_gradient(x: Tensor, network: Network) -> tuple[Tensor, Tensor]:
    """f(x), (n,), and df/dx, (n, dims), both differentiable in weights and biases, once.

    Raises:
        MemoryError: there is none left.
    """
    if not learns(network):
        return torch.ops.ebmtrain.perceptron(x, *network, None, 1, False)[:2]
    f, gradient = differentiable(x, network, 1)
    return f, gradient


def output_and_curvature(x: Tensor, w: Tensor, network: Network) -> tuple[Tensor, Tensor, Tensor]:
    """f(x), (n,), df/dx, (n, dims), and w' (d2f/dx2) w, (n,), of directions w, (n, dims): all
    differentiable in weights and biases, once.

    Raises:
        MemoryError: there is none left.
    """
    if not learns(network):
        return torch.ops.ebmtrain.perceptron(x, *network, w, 2, False)[:3]
    f, gradient, curvature = differentiable(x, network, 2, w)
    return f, gradient, curvature


def differentiable(
    x: Tensor, network: Network, order: int, w: Tensor | None = None
) -> tuple[Tensor, ...]:
    scale, activation, frequencies, weights, biases = network
    return Output.apply(x, w, order, scale, activation, frequencies, *weights, *biases)  # type: ignore[return]


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


def there(
    x: Tensor, network: Network, order: int, w: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """f, df/dx and the curvature along w, of which those beyond the order are empty, and what
    `of_weights` needs of that."""
    return torch.ops.ebmtrain.perceptron(x, *network, w, order, True)


def of_weights(
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
        kept: of the way there with as many derivatives: see `there`.
    """
    return torch.ops.ebmtrain.perceptron_weights(x, *network, v, u, w, b, kept)


def at_once(
    x: Tensor,
    network: Network,
    v: Tensor,
    u: Tensor | None = None,
    w: Tensor | None = None,
    b: Tensor | None = None,
    slopes: Sequence[Tensor | None] = (None, None, None),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `of_weights` finds, and before it f, df/dx and the curvature along w as of `there`, each
    block of points going there and back before the next: see perceptron_fusion.py.

    Args:
        slopes: a, c and d, like v, u and b, where these are v + a f, u + c df/dx (number by number)
            and b + d w' (d2f/dx2) w; None: they are as given.
    """
    flat, *found = torch.ops.ebmtrain.perceptron_at_once(x, *network, v, u, w, b, *slopes)
    return *found, flat


class Output(torch.autograd.Function):
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
        *found, kept = there(x, network, order, w)
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
        flat = of_weights(x, network, kept, v, u, w, b)
        in_turn = [t for pair in zip(network.weights, network.biases, strict=True) for t in pair]
        parts = flat.split([t.numel() for t in in_turn])
        found = [part.view_as(t) for part, t in zip(parts, in_turn, strict=True)]
        return *[None] * 6, *found[::2], *found[1::2]
