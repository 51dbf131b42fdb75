"""Custom torch operations `torch.ops.ebmtrain.perceptron*`, implemented in perceptron.cpp.

They take float32 tensors on the CPU. Several networks of the same sizes are computed in one call if
all tensors have a leading dimension of members. There is no autograd here: functional.py adds it.
Shapes or types that do not match raise ValueError. The last two operations also run on NVIDIA GPUs:
see cuda.py.

perceptron           f(x), df/dx and w' (d2f/dx2) w along directions w, up to `order`, 0 to 2
                     (results of a higher order are empty), and the tape if `keep`
perceptron_weights   gradient in the parameters from a tape: `functional.parameter_vjp`
perceptron_at_once   both in one pass, without a tape: `functional.forward_and_vjp`
perceptron_langevin  `functional.langevin`
perceptron_leapfrog  `functional.leapfrog`
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebmtrain.runtime import native

SOURCE = Path(__file__).with_name("perceptron.cpp")  # loading it registers the CPU implementations
ACTIVATIONS = "silu", "leaky_relu"


class Network(NamedTuple):
    """Arguments of f(embed(x)); see `MLP` and `FourierFeatures`. For several networks all tensors
    have a leading dimension of members."""

    scale: float
    activation: str
    frequencies: Tensor
    """(m, dims)"""
    weights: Sequence[Tensor]
    """One (outputs, inputs) for each layer; the first has dims + 2 m inputs, the last 1 output."""
    biases: Sequence[Tensor]
    """One (outputs,) for each layer."""


LIBRARY = torch.library.Library("ebmtrain", "DEF")


def _define(name: str, others: str, results: str, fake: Callable[..., Any]) -> None:
    """Declares an operation on points, a network and other arguments, with its rule for vmap.

    Args:
        fake: returns empty tensors of the shapes of the results, from the same arguments. Under
            vmap all tensors have a leading dimension of members.
    """
    network = "float scale, str activation, Tensor frequencies, Tensor[] weights, Tensor[] biases"
    LIBRARY.define(f"{name}(Tensor x, {network}, {others}) -> {results}")
    torch.library.register_fake(f"ebmtrain::{name}", fake, lib=LIBRARY)
    operation = getattr(torch.ops.ebmtrain, name)

    def batched(info: Any, dims: Any, *arguments: Any) -> Any:
        def members_first(value: Any, dim: Any) -> Any:
            if isinstance(value, (list, tuple)) and any(isinstance(t, Tensor) for t in value):
                return list(map(members_first, value, dim))
            if not isinstance(value, Tensor):
                return value
            if dim is None:
                return value.expand(info.batch_size, *value.shape)
            return value.movedim(dim, 0)

        outputs = operation(*map(members_first, arguments, dims))
        return outputs, (0,) * len(outputs) if isinstance(outputs, tuple) else 0

    torch.library.register_vmap(f"ebmtrain::{name}", batched, lib=LIBRARY)


def _fake_perceptron(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *network, _, order, keep = arguments
    *members, n, dims = map(int, x.shape)  # a compiler passes symbolic sizes
    *_, frequencies, weights, _ = network
    units = tuple(int(w.shape[-2]) for w in weights)
    length = _tape_length(n, order, dims, int(frequencies.shape[-2]), units) if keep else 0
    return (
        x.new_empty(x.shape[:-1]),
        x.new_empty(x.shape if order > 0 else (*members, 0)),
        x.new_empty(x.shape[:-1] if order > 1 else (*members, 0)),
        x.new_empty((*members, length)),
    )


@lru_cache(maxsize=512)
def _tape_length(n: int, order: int, dims: int, n_frequencies: int, units: tuple[int, ...]) -> int:
    """Number of floats in the tape of n points."""
    cpp = native.library(SOURCE)
    assert cpp is not None
    sizes = [dims + 2 * n_frequencies, *units]
    cpp.perceptron_tape_length.restype = ctypes.c_int64
    counts = map(ctypes.c_int64, (dims, n_frequencies, len(units) - 1))
    layer_sizes = (ctypes.c_int64 * len(sizes))(*sizes)
    return cpp.perceptron_tape_length(ctypes.c_int64(n), ctypes.c_int(order), *counts, layer_sizes)


def _fake_vjp(x: Tensor, *arguments: Any) -> Tensor:
    _, _, _, weights, biases, *_ = arguments
    members = x.shape[:-2]
    n = sum(t.numel() for t in (*weights, *biases)) // (members[0] if members else 1)
    return x.new_empty((*members, n))


def _fake_forward_vjp(x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    *network, _, u, w, _, _, _, _ = arguments
    order = 0 if u is None else 1 if w is None else 2
    return _fake_vjp(x, *arguments), *_fake_perceptron(x, *network, w, order, False)[:3]


def _fake_leapfrog(x: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return *(x.new_empty(x.shape) for _ in range(3)), x.new_empty(x.shape[:-1])


_FOUR_TENSORS = "(Tensor, Tensor, Tensor, Tensor)"
_define("perceptron", "Tensor? w, int order, bool keep", _FOUR_TENSORS, _fake_perceptron)
_define(
    "perceptron_weights", "Tensor v, Tensor? u, Tensor? w, Tensor? b, Tensor tape", "Tensor",
    _fake_vjp,
)  # fmt: skip
_define(
    "perceptron_at_once",
    "Tensor v, Tensor? u, Tensor? w, Tensor? b, "
    "Tensor? slope_of_v, Tensor? slope_of_u, Tensor? slope_of_b",
    _FOUR_TENSORS, _fake_forward_vjp,
)  # fmt: skip
_define(
    "perceptron_langevin", "Tensor noise, float precision, float[] sizes, float[] scales", "Tensor",
    lambda x, *_: x.new_empty(x.shape),
)  # fmt: skip
_define(
    "perceptron_leapfrog",
    "Tensor momentum, Tensor gradient, Tensor eps, float precision, float temperature, int steps",
    _FOUR_TENSORS, _fake_leapfrog,
)  # fmt: skip
