"""Operations of torch's own kind whose work perceptron.cpp does: `torch.ops.ebmtrain`.

For tensors of float32 on the CPU; of several networks of the same sizes at once, where all tensors
have members in front. Without autograd, which perceptron.py adds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebmtrain import native

SOURCE = Path(__file__).with_name("perceptron.cpp")
ACTIVATIONS = {"leaky_relu": 0, "silu": 1}


def library() -> ctypes.CDLL | None:
    return native.library(SOURCE)


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


class _Network(ctypes.Structure):
    """`Network` of perceptron.cpp."""

    _fields_ = (
        ("dims", ctypes.c_int64),
        ("n_frequencies", ctypes.c_int64),
        ("depth", ctypes.c_int64),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
        ("weights", ctypes.POINTER(ctypes.c_void_p)),
        ("biases", ctypes.POINTER(ctypes.c_void_p)),
        ("frequencies", ctypes.c_void_p),
        ("scale", ctypes.c_float),
        ("activation", ctypes.c_int64),
    )


def called(name: str, x: Tensor, network: Network, *others: Tensor | None) -> None:
    """Hands all of it to the function of this name.

    Args:
        x: (n, dims), or (members, n, dims); like all tensors without gaps in memory.
        others: further arguments of the function, null for None.

    Raises:
        ValueError: see `sizes_of`.
        MemoryError: there is none left.
    """
    cpp = library()
    assert cpp is not None
    _, _, frequencies, weights, biases = network
    layers = len(weights)
    sizes = (ctypes.c_int64 * (layers + 1))(*sizes_of(x, network))
    of_weights = (ctypes.c_void_p * layers)(*(w.data_ptr() for w in weights))
    of_biases = (ctypes.c_void_p * layers)(*(b.data_ptr() for b in biases))
    told = _Network(
        x.shape[-1], frequencies.shape[-2], layers - 1, sizes, of_weights, of_biases,
        frequencies.data_ptr(), network.scale, ACTIVATIONS[network.activation],
    )  # fmt: skip
    failed = getattr(cpp, name)(
        ctypes.byref(told),
        ctypes.c_int64(len(x) if x.dim() == 3 else 1),
        ctypes.c_int64(x.shape[-2]),
        *(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in (x, *others)),
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError(f"no memory for the {layers} layers of a perceptron")


def sizes_of(x: Tensor, network: Network) -> list[int]:
    """Features, the units of each hidden layer, and the one output.

    Raises:
        ValueError: points and layers do not fit together: C++ would read what is not theirs.
    """
    *members, _, dims = x.shape
    frequencies, weights, biases = network[2:]
    sizes = [dims + 2 * frequencies.shape[-2], *(w.shape[-2] for w in weights)]
    layers = zip(weights, biases, pairwise(sizes), strict=True)
    if (
        len(members) > 1
        or sizes[-1] != 1
        or frequencies.shape != (*members, frequencies.shape[-2], dims)
        or any(
            w.shape != (*members, n_out, n_in) or b.shape != (*members, n_out)
            for w, b, (n_in, n_out) in layers
        )
        or any(t.dtype != torch.float32 for t in (x, frequencies, *weights, *biases))
    ):
        told = ", ".join(f"{tuple(w.shape)}" for w in weights)
        raise ValueError(
            f"points of shape {tuple(x.shape)} do not fit a perceptron of float32 whose layers are "
            f"{told}, with frequencies {tuple(frequencies.shape)}"
        )
    return sizes


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
    *network, v, u = arguments
    if v.shape != x.shape[:-1] or (u is not None and u.shape != x.shape):
        told = None if u is None else tuple(u.shape)
        raise ValueError(f"v {tuple(v.shape)} and u {told} do not fit points {tuple(x.shape)}")
    flat = _flat(x, *arguments)
    u = None if u is None else u.contiguous()
    v = v.contiguous()
    called("perceptron_weights", x.contiguous(), dense(Network(*network)), v, u, flat)
    return flat
