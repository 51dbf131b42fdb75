"""Operations of torch's own kind whose work perceptron.cpp does: `torch.ops.ebmtrain`.

For tensors of float32 on the CPU; of several networks of the same sizes at once, where all tensors
have members in front. Without autograd, which perceptron.py adds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebmtrain import native

SOURCE = Path(__file__).with_name("perceptron.cpp")
ALIGNMENT = 64  # bytes, of what C++ takes for vectors; torch's own tensors begin at such places
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
LIBRARY.define(f"perceptron_and_curvature({ARGUMENTS}, Tensor w) -> (Tensor, Tensor, Tensor)")
LIBRARY.define(
    f"perceptron_kept({ARGUMENTS}, Tensor? w, int order) -> (Tensor, Tensor, Tensor, Tensor)"
)
LIBRARY.define(
    f"perceptron_weights({ARGUMENTS}, Tensor v, Tensor? u, Tensor? w, Tensor? b, Tensor kept) "
    "-> Tensor"
)
LIBRARY.define(
    f"perceptron_langevin({ARGUMENTS}, Tensor noise, float precision, float[] sizes, "
    "float[] scales) -> Tensor"
)
LIBRARY.define(
    f"perceptron_leapfrog({ARGUMENTS}, Tensor momentum, Tensor gradient, Tensor eps, "
    "float precision, float temperature, int steps) -> (Tensor, Tensor, Tensor, Tensor)"
)


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


Argument = Tensor | float | int | Sequence[float] | None
Description = tuple[int, torch.Size, torch.dtype]  # of a tensor: address, shape, type


def described(tensor: Tensor) -> Description:
    return tensor.data_ptr(), tensor.shape, tensor.dtype


def called(name: str, x: Tensor, network: Network, *others: Argument) -> None:
    """Hands all of it to the function of this name.

    Args:
        x: (n, dims), or (members, n, dims); like all tensors without gaps in memory.
        others: further arguments of the function.

    Raises:
        ValueError: see `laid_out`.
        MemoryError: there is none left.
    """
    cpp = library()
    assert cpp is not None
    scale, activation, frequencies, weights, biases = network
    tensors = map(described, [frequencies, *weights, *biases])
    told = laid_out(x.shape, x.dtype, scale, activation, *tensors)
    failed = getattr(cpp, name)(
        ctypes.byref(told),
        ctypes.c_int64(len(x) if x.dim() == 3 else 1),
        ctypes.c_int64(x.shape[-2]),
        *map(in_c, (x, *others)),
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError(f"no memory for the {len(weights)} layers of a perceptron")


def in_c(value: Argument) -> Any:
    """Addresses of tensors, null for None; lists of numbers as floats."""
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    if isinstance(value, Sequence):
        return (ctypes.c_float * len(value))(*value)
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int64(value)


@lru_cache(maxsize=512)  # most calls are of the same tensors as the one before
def laid_out(
    x: torch.Size, dtype: torch.dtype, scale: float, activation: str, *tensors: Description
) -> _Network:
    """The network of frequencies, weights and biases, for points of this shape.

    Raises:
        ValueError: points and layers do not fit together: C++ would read what is not theirs.
    """
    *members, _, dims = x
    addresses, shapes, dtypes = zip(*tensors, strict=True)
    layers = len(tensors) // 2
    frequencies, weights, biases = shapes[0], shapes[1 : layers + 1], shapes[layers + 1 :]
    sizes = [dims + 2 * frequencies[-2], *(w[-2] for w in weights)]
    if (
        len(members) > 1
        or sizes[-1] != 1
        or frequencies != (*members, frequencies[-2], dims)
        or any(
            w != (*members, n_out, n_in) or b != (*members, n_out)
            for w, b, (n_in, n_out) in zip(weights, biases, pairwise(sizes), strict=True)
        )
        or {dtype, *dtypes} != {torch.float32}
    ):
        raise ValueError(
            f"points of shape {tuple(x)} do not fit a perceptron of float32 whose layers are "
            f"{', '.join(f'{tuple(w)}' for w in weights)}, with frequencies {tuple(frequencies)}"
        )
    parts = [
        (ctypes.c_int64 * (layers + 1))(*sizes),
        (ctypes.c_void_p * layers)(*addresses[1 : layers + 1]),
        (ctypes.c_void_p * layers)(*addresses[layers + 1 :]),
    ]
    told = _Network(
        dims, frequencies[-2], layers - 1, *parts, addresses[0], scale, ACTIVATIONS[activation]
    )
    told.parts = parts  # which it points to
    return told


def dense(network: Network) -> Network:
    return network._replace(
        frequencies=network.frequencies.contiguous(),
        weights=[w.contiguous() for w in network.weights],
        biases=[b.contiguous() for b in network.biases],
    )


def implements(name: str, shapes: Callable[..., Any]) -> Callable[..., Any]:
    """Makes what is decorated the operation of this name.

    Args:
        shapes: of the same arguments, makes tensors like those that come out. By vmap it is asked
            once, for tensors which all have the members in front.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        torch.library.impl(LIBRARY, name, "CPU")(function)
        torch.library.register_fake(f"ebmtrain::{name}", shapes, lib=LIBRARY)
        operation = getattr(torch.ops.ebmtrain, name)

        def mapped(info: Any, dims: Any, *arguments: Any) -> Any:
            def stacked(value: Any, dim: Any) -> Any:
                if isinstance(value, (list, tuple)) and any(isinstance(t, Tensor) for t in value):
                    return list(map(stacked, value, dim))
                if not isinstance(value, Tensor):
                    return value
                if dim is None:
                    return value.expand(info.batch_size, *value.shape)
                return value.movedim(dim, 0)

            found = operation(*map(stacked, arguments, dims))
            return found, (0,) * len(found) if isinstance(found, tuple) else 0

        torch.library.register_vmap(f"ebmtrain::{name}", mapped, lib=LIBRARY)
        return function

    return register


@implements("perceptron", lambda x, *_: x.new_empty(x.shape[:-1]))
def _perceptron(x: Tensor, *network: Any) -> Tensor:
    x = x.contiguous()
    f = x.new_empty(x.shape[:-1])
    called("perceptron_points", x, dense(Network(*network)), None, f, None, None, None)
    return f


@implements(
    "perceptron_and_gradient", lambda x, *_: (x.new_empty(x.shape[:-1]), x.new_empty(x.shape))
)
def _perceptron_and_gradient(x: Tensor, *network: Any) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    f, gradient = x.new_empty(x.shape[:-1]), torch.empty_like(x)
    called("perceptron_points", x, dense(Network(*network)), None, f, gradient, None, None)
    return f, gradient


@implements(
    "perceptron_and_curvature",
    lambda x, *_: (x.new_empty(x.shape[:-1]), x.new_empty(x.shape), x.new_empty(x.shape[:-1])),
)
def _perceptron_and_curvature(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *network, w = arguments
    fits(x, w=w)
    x = x.contiguous()
    found = x.new_empty(x.shape[:-1]), torch.empty_like(x), x.new_empty(x.shape[:-1])
    called("perceptron_points", x, dense(Network(*network)), w.contiguous(), *found, None)
    return found


def _kept(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *network, _, order = arguments
    members = x.shape[:-2]
    return (
        x.new_empty(x.shape[:-1]),
        x.new_empty(x.shape if order > 0 else (*members, 0)),
        x.new_empty(x.shape[:-1] if order > 1 else (*members, 0)),
        x.new_empty(kept_shape(x, Network(*network), order)),
    )


def kept_shape(x: Tensor, network: Network, order: int) -> tuple[int, ...]:
    *members, n, dims = map(int, x.shape)  # of a compiler they may be symbols
    units = tuple(int(w.shape[-2]) for w in network.weights)
    return *members, kept_size(n, order, dims, int(network.frequencies.shape[-2]), units)


@lru_cache(maxsize=512)
def kept_size(n: int, order: int, dims: int, n_frequencies: int, units: tuple[int, ...]) -> int:
    """Numbers that C++ keeps of the way there for the one back."""
    cpp = library()
    assert cpp is not None
    sizes = [dims + 2 * n_frequencies, *units]
    of_layers = (ctypes.c_int64 * len(sizes))(*sizes)
    network = _Network(dims, n_frequencies, len(units) - 1, of_layers)
    cpp.perceptron_kept.restype = cpp.perceptron_block.restype = ctypes.c_int64
    each = cpp.perceptron_kept(ctypes.byref(network), order)
    return -(-n // cpp.perceptron_block()) * each


@implements("perceptron_kept", _kept)
def _perceptron_kept(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the three operations above give, and what `perceptron_weights` needs of the way there.

    `order`: 0: f; 1: and the gradient; 2: and the curvature; what is not wanted is empty."""
    *network, w, order = arguments
    fits(x, w=w)
    if (w is not None) != (order > 1):
        raise ValueError(f"the directions w belong to order 2, not to {order}")
    x, found = x.contiguous(), _kept(x, *arguments)
    f, gradient, curvature, kept = found
    called(
        "perceptron_points", x, dense(Network(*network)), None if w is None else w.contiguous(), f,
        gradient if order > 0 else None, curvature if order > 1 else None, kept,
    )  # fmt: skip
    return found


def fits(x: Tensor, **others: Tensor | None) -> None:
    """
    Raises:
        ValueError: one of them is not as the points are, or has not one number for each of them.
    """
    for name, t in others.items():
        expected = x.shape[:-1] if name in ("v", "b", "eps") else x.shape
        if t is not None and (t.shape != expected or t.dtype != x.dtype):
            raise ValueError(
                f"{name} {tuple(t.shape)} of {t.dtype} does not fit points {tuple(x.shape)}"
            )


def _flat(x: Tensor, *arguments: Any) -> Tensor:
    *_, weights, biases, _, _, _, _, _ = arguments
    members = x.shape[:-2]
    n = sum(t.numel() for t in (*weights, *biases)) // (members[0] if members else 1)
    return x.new_empty((*members, n))


@implements("perceptron_langevin", lambda x, *_: x.new_empty(x.shape))
def _perceptron_langevin(x: Tensor, *arguments: Any) -> Tensor:
    *network, noise, precision, sizes, scales = arguments
    *members, n, dims = x.shape
    shape = *members, len(sizes), n, dims
    if noise.shape != shape or noise.dtype != x.dtype or len(scales) != len(sizes):
        raise ValueError(
            f"noise {tuple(noise.shape)} of {noise.dtype} and {len(scales)} scales do not fit "
            f"{len(sizes)} steps of points {tuple(x.shape)}"
        )
    x, noise, ends = x.contiguous(), noise.contiguous(), x.new_empty(x.shape)
    called(
        "perceptron_langevin", x, dense(Network(*network)), noise, sizes, scales, ends, precision,
        len(sizes),
    )  # fmt: skip
    return ends


@implements(
    "perceptron_leapfrog",
    lambda x, *_: (*(x.new_empty(x.shape) for _ in range(3)), x.new_empty(x.shape[:-1])),
)
def _perceptron_leapfrog(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *network, momentum, gradient, eps, precision, temperature, steps = arguments
    fits(x, momentum=momentum, gradient=gradient, eps=eps)
    # They come in as what goes out, and are written over.
    given = (t.clone(memory_format=torch.contiguous_format) for t in (x, momentum, gradient))
    x, momentum, gradient = given
    f = x.new_empty(x.shape[:-1])
    called(
        "perceptron_leapfrog", x, dense(Network(*network)), momentum, gradient, eps.contiguous(), f,
        precision, 1.0 / temperature, steps,
    )  # fmt: skip
    return x, momentum, gradient, f


@implements("perceptron_weights", _flat)
def _perceptron_weights(x: Tensor, *arguments: Any) -> Tensor:
    *network, v, u, w, b, kept = arguments
    fits(x, v=v, u=u, w=w, b=b)
    if w is not None and (u is None or b is None):
        raise ValueError("w needs u and b")
    of_points = kept_shape(x, Network(*network), (u is not None) + (w is not None))
    if kept.shape != of_points or kept.dtype != torch.float32:
        raise ValueError(f"kept {tuple(kept.shape)} does not fit points {tuple(x.shape)}")
    if kept.data_ptr() % ALIGNMENT:
        kept = kept.clone()
    flat = _flat(x, *arguments)
    others = [None if t is None else t.contiguous() for t in (v, u, w, b, kept)]
    called("perceptron_weights", x.contiguous(), dense(Network(*network)), *others, flat)
    return flat
