"""The perceptron of mlp.py in C++, with its gradients: for float32 on the CPU.

What `MLP` writes out layer by layer, in less than half of the time (docs/performance.md): what lies
between the layers stays in the cache, and nothing waits for the launch of one operation after the
other. They are operations of torch's own kind (`torch.ops.ebmtrain`), so that they have their place
in compiled graphs and in those of an ensemble.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ebmtrain import native

SOURCE = Path(__file__).with_suffix(".cpp")
ACTIVATIONS = {"leaky_relu": 0, "silu": 1}


class Network(NamedTuple):
    """f(embed(x)); see `MLP` and `Embedding`. For several of them, members in front."""

    scale: float
    activation: str
    frequencies: Tensor
    """(m, dims)"""
    weights: Sequence[Tensor]
    """Of each layer, (outputs, inputs); the first has dims + 2 m inputs, the last one output."""
    biases: Sequence[Tensor]
    """(outputs,)"""


ARGUMENTS = (
    "Tensor x, float scale, str activation, Tensor frequencies, Tensor[] weights, Tensor[] biases"
)
LIBRARY = torch.library.Library("ebmtrain", "DEF")
LIBRARY.define(f"perceptron({ARGUMENTS}) -> Tensor")
LIBRARY.define(f"perceptron_and_gradient({ARGUMENTS}) -> (Tensor, Tensor)")
LIBRARY.define(f"perceptron_weights({ARGUMENTS}, Tensor v, Tensor? u) -> Tensor")

def knows(x: Tensor, network: Network) -> bool:
    """Whether it is to be used for these, and can be: no derivative in x will be asked for."""
    return (
        native.wanted()
        and network.activation in ACTIVATIONS
        and all(t.dtype == torch.float32 for t in (x, network.frequencies, network.weights[0]))
        and x.device.type == "cpu"
        and not (x.requires_grad and torch.is_grad_enabled())
        and torch.autograd.forward_ad._current_level < 0
        and torch._C._functorch.maybe_current_level() is None
        and agrees()
    )


@cache
def agrees() -> bool:
    """Whether there is a library here, and it does what it should on a small example."""
    if native.library(SOURCE) is None:
        return False
    draw = torch.Generator().manual_seed(0)
    w, *weights = (torch.randn(m, n, generator=draw) for m, n in ((5, 3), (9, 13), (1, 9)))
    biases = [torch.randn(n, generator=draw) for n in (9, 1)]
    x = torch.randn(50, 3, generator=draw)
    found = torch.ops.ebmtrain.perceptron(x, *Network(2.0, "leaky_relu", w, weights, biases))
    features = torch.cat([2 * x, (x @ w.T).cos(), (x @ w.T).sin()], 1)
    h = torch.nn.functional.leaky_relu(features @ weights[0].T + biases[0])
    return torch.allclose(found, (h @ weights[1].T + biases[1])[:, 0], rtol=1e-4, atol=1e-4)


def output(x: Tensor, network: Network) -> Tensor:
    """f(x), (n,), differentiable in weights and biases, once.

    Raises:
        MemoryError: there is none left.
    """
    scale, activation, frequencies, weights, biases = network
    return Output.apply(x, scale, activation, frequencies, *weights, *biases)  # type: ignore[return]


def output_and_gradient(x: Tensor, network: Network) -> tuple[Tensor, Tensor]:
    """f(x), (n,), and df/dx, (n, dims), both differentiable in weights and biases, once.

    Raises:
        MemoryError: there is none left.
    """
    scale, activation, frequencies, weights, biases = network
    return OutputAndGradient.apply(x, scale, activation, frequencies, *weights, *biases)  # type: ignore[return]


class Output(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: float, activation: str, frequencies: Tensor, *layers: Tensor
    ) -> Tensor:
        network = kept(ctx, x, scale, activation, frequencies, *layers)
        return torch.ops.ebmtrain.perceptron(x, *network)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        return of_layers(ctx, v, None)


class OutputAndGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: float, activation: str, frequencies: Tensor, *layers: Tensor
    ) -> tuple[Tensor, Tensor]:
        network = kept(ctx, x, scale, activation, frequencies, *layers)
        return torch.ops.ebmtrain.perceptron_and_gradient(x, *network)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor, u: Tensor) -> tuple[Tensor | None, ...]:
        return of_layers(ctx, v, u)


def kept(
    ctx: Any, x: Tensor, scale: float, activation: str, frequencies: Tensor, *layers: Tensor
) -> Network:
    """The network of these arguments, which are kept for the way back."""
    ctx.save_for_backward(x, frequencies, *layers)
    ctx.settings = scale, activation
    half = len(layers) // 2
    return Network(scale, activation, frequencies, layers[:half], layers[half:])


def of_layers(ctx: Any, v: Tensor, u: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradient with respect to each argument, from those with respect to f and df/dx."""
    x, frequencies, *layers = ctx.saved_tensors
    half = len(layers) // 2
    scale, activation = ctx.settings
    network = Network(scale, activation, frequencies, layers[:half], layers[half:])
    flat = torch.ops.ebmtrain.perceptron_weights(x, *network, v, u)
    in_turn = [t for pair in zip(network.weights, network.biases, strict=True) for t in pair]
    parts = flat.split([t.numel() for t in in_turn])
    found = [part.view_as(t) for part, t in zip(parts, in_turn, strict=True)]
    return None, None, None, None, *found[::2], *found[1::2]


class _Network(ctypes.Structure):
    """`Network` of perceptron.cpp."""

    _fields_ = (
        ("dims", ctypes.c_int64),
        ("n_frequencies", ctypes.c_int64),
        ("depth", ctypes.c_int64),
        ("sizes", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("biases", ctypes.c_void_p),
        ("frequencies", ctypes.c_void_p),
        ("scale", ctypes.c_float),
        ("activation", ctypes.c_int64),
    )


def called(name: str, x: Tensor, network: Network, *others: Tensor | None) -> None:
    """Hands all of it to the function of this name.

    Args:
        x: (n, dims), or (members, n, dims); like all tensors without gaps in memory.
        others: further arguments of the function, null for None.
    """
    library = native.library(SOURCE)
    assert library is not None
    _, _, frequencies, weights, biases = network
    layers = len(weights)
    sizes = (ctypes.c_int64 * (layers + 1))(*(w.shape[-1] for w in weights), 1)
    of_weights = (ctypes.c_void_p * layers)(*(w.data_ptr() for w in weights))
    of_biases = (ctypes.c_void_p * layers)(*(b.data_ptr() for b in biases))
    told = _Network(
        x.shape[-1], frequencies.shape[-2], layers - 1, ctypes.addressof(sizes),
        ctypes.addressof(of_weights), ctypes.addressof(of_biases), frequencies.data_ptr(),
        network.scale, ACTIVATIONS[network.activation],
    )  # fmt: skip
    failed = getattr(library, name)(
        ctypes.byref(told),
        ctypes.c_int64(len(x) if x.dim() == 3 else 1),
        ctypes.c_int64(x.shape[-2]),
        *(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in (x, *others)),
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError(f"no memory for the {layers} layers of a perceptron")


def dense(network: Network) -> Network:
    return network._replace(
        frequencies=network.frequencies.contiguous(),
        weights=[w.contiguous() for w in network.weights],
        biases=[b.contiguous() for b in network.biases],
    )


def implements(name: str, shapes: Callable[..., Any]) -> Callable[..., Any]:
    """For the operation of this name: what is decorated computes it, `shapes` tells what comes out,
    and what it is for tensors with members is that all of them have them in front."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        torch.library.impl(LIBRARY, name, "CPU")(function)
        torch.library.register_fake(f"ebmtrain::{name}", shapes, lib=LIBRARY)
        operation = getattr(torch.ops.ebmtrain, name)

        def mapped(info: Any, dims: Any, x: Any, scale: Any, activation: Any, *tensors: Any) -> Any:
            def stacked(value: Any, dim: Any) -> Any:
                if value is None:
                    return None
                if isinstance(value, (list, tuple)):
                    return list(map(stacked, value, dim))
                if dim is None:
                    return value.expand(info.batch_size, *value.shape)
                return value.movedim(dim, 0)

            rest = map(stacked, tensors, dims[3:])
            found = operation(stacked(x, dims[0]), scale, activation, *rest)
            return found, (0, 0) if isinstance(found, tuple) else 0

        torch.library.register_vmap(f"ebmtrain::{name}", mapped, lib=LIBRARY)
        return function

    return register


@implements("perceptron", lambda x, *_: x.new_empty(x.shape[:-1]))
def _perceptron(x: Tensor, *network: Any) -> Tensor:
    x = x.contiguous()
    f = x.new_empty(x.shape[:-1])
    called("perceptron_points", x, dense(Network(*network)), f, None)
    return f


@implements(
    "perceptron_and_gradient", lambda x, *_: (x.new_empty(x.shape[:-1]), x.new_empty(x.shape))
)
def _perceptron_and_gradient(x: Tensor, *network: Any) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    f, gradient = x.new_empty(x.shape[:-1]), torch.empty_like(x)
    called("perceptron_points", x, dense(Network(*network)), f, gradient)
    return f, gradient


def _flat(x: Tensor, *arguments: Any) -> Tensor:
    *_, weights, biases, _, _ = arguments
    n = sum(t.shape[-2] * t.shape[-1] for t in weights) + sum(t.shape[-1] for t in biases)
    return x.new_empty((*x.shape[:-2], n))


@implements("perceptron_weights", _flat)
def _perceptron_weights(x: Tensor, *arguments: Any) -> Tensor:
    """The gradient of sum_p v_p f(x_p) + u_p . df/dx(x_p) with respect to weights and biases, flat:
    each matrix and its bias after it. u may be None."""
    *network, v, u = arguments
    flat = _flat(x, *arguments)
    u = None if u is None else u.contiguous()
    v = v.contiguous()
    called("perceptron_weights", x.contiguous(), dense(Network(*network)), v, u, flat)
    return flat
