"""Operations of torch's own kind, `torch.ops.ebmtrain`, whose work perceptron.cpp does.

For tensors of float32 on the CPU; of several networks of the same sizes at once, where all tensors
have members in front. Without autograd, which perceptron.py adds. What does not fit together is
refused there, by a ValueError. The last two also on NVIDIA's GPUs: see perceptron_gpu.py.

perceptron           f(x), df/dx and w' (d2f/dx2) w of directions w, as far as `order` goes, 0 to 2,
                     what is beyond it being empty; and, if `keep`, what the next one needs of it
perceptron_weights   see `perceptron.of_weights`
perceptron_at_once   both, keeping nothing: see `perceptron.at_once`
perceptron_langevin  see `perceptron.langevin`
perceptron_leapfrog  see `perceptron.leapfrog`
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

SOURCE = Path(__file__).with_name("perceptron.cpp")
ACTIVATIONS = "silu", "leaky_relu"


def library() -> ctypes.CDLL | None:
    """Opened, it makes the operations those of the CPU."""
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


LIBRARY = torch.library.Library("ebmtrain", "DEF")


def _define(name: str, others: str, results: str, shapes: Callable[..., Any]) -> None:
    """An operation of points, a network and others.

    Args:
        shapes: of the same arguments, makes tensors like those that come out. By vmap it is asked
            once, for tensors which all have the members in front.
    """
    network = "float scale, str activation, Tensor frequencies, Tensor[] weights, Tensor[] biases"
    LIBRARY.define(f"{name}(Tensor x, {network}, {others}) -> {results}")
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


def _fake_perceptron(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *network, _, order, keep = arguments
    *members, n, dims = map(int, x.shape)  # of a compiler they may be symbols
    *_, frequencies, weights, _ = network
    units = tuple(int(w.shape[-2]) for w in weights)
    kept = tape_length(n, order, dims, int(frequencies.shape[-2]), units) if keep else 0
    return (
        x.new_empty(x.shape[:-1]),
        x.new_empty(x.shape if order > 0 else (*members, 0)),
        x.new_empty(x.shape[:-1] if order > 1 else (*members, 0)),
        x.new_empty((*members, kept)),
    )


@lru_cache(maxsize=512)
def tape_length(n: int, order: int, dims: int, n_frequencies: int, units: tuple[int, ...]) -> int:
    cpp = library()
    assert cpp is not None
    sizes = [dims + 2 * n_frequencies, *units]
    cpp.perceptron_kept.restype = ctypes.c_int64
    counts = map(ctypes.c_int64, (dims, n_frequencies, len(units) - 1))
    of_layers = (ctypes.c_int64 * len(sizes))(*sizes)
    return cpp.perceptron_kept(ctypes.c_int64(n), ctypes.c_int(order), *counts, of_layers)


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
    "perceptron_weights", "Tensor v, Tensor? u, Tensor? w, Tensor? b, Tensor kept", "Tensor",
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
