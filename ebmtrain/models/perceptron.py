"""A perceptron and its gradient in one pass of C++: `torch.ops.ebmtrain.perceptron`.

What `MLP.energy_and_gradient` writes out layer by layer, in a half to a third of the time
(docs/performance.md): activations stay in the cache, and no operation waits for another's launch.
An operation of torch's own kind, so that it has its place in compiled graphs and in those of an
ensemble. For points and weights of float32 on the CPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ebmtrain import native

SOURCE = Path(__file__).with_suffix(".cpp")
ACTIVATIONS = {"leaky_relu": 0, "silu": 1}

LIBRARY = torch.library.Library("ebmtrain", "DEF")
LIBRARY.define(
    "perceptron(Tensor x, float scale, Tensor frequencies, Tensor[] weights, Tensor[] biases, "
    "str activation) -> (Tensor, Tensor)"
)


def applies(x: Tensor, weights: Sequence[Tensor], activation: str) -> bool:
    """Whether the operation can be asked for: no derivative of it, of what it knows, and here."""
    return (
        not torch.is_grad_enabled()
        and activation in ACTIVATIONS
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, weights[0]))
        and usable()
    )


_wanted = True


def use(wanted: bool) -> None:
    """For the whole process, `device.native`."""
    global _wanted
    _wanted = wanted


def usable() -> bool:
    return _wanted and agrees()


@cache
def agrees() -> bool:
    """Whether there is a library here, and it does what it should on a small example."""
    if native.library(SOURCE) is None:
        return False
    draw = torch.Generator().manual_seed(0)
    w, *weights = (torch.randn(m, n, generator=draw) for m, n in ((5, 3), (9, 13), (1, 9)))
    b, c = torch.randn(9, generator=draw), torch.randn(1, generator=draw)
    x = torch.randn(50, 3, generator=draw)
    f, _ = torch.ops.ebmtrain.perceptron(x, 2.0, w, weights, [b, c], "leaky_relu")
    features = torch.cat([2 * x, (x @ w.T).cos(), (x @ w.T).sin()], 1)
    h = torch.nn.functional.leaky_relu(features @ weights[0].T + b)
    return torch.allclose(f, (h @ weights[1].T + c)[:, 0], rtol=1e-4, atol=1e-4)


@torch.library.impl(LIBRARY, "perceptron", "CPU")
def perceptron(
    x: Tensor,
    scale: float,
    frequencies: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
) -> tuple[Tensor, Tensor]:
    """f(embed(x)) and its gradient with respect to x; see `Embedding`.

    Args:
        x: (n, dims), or (members, n, dims) for several networks of the same sizes; so all others.
        frequencies: (m, dims).
        weights: of each layer, (outputs, inputs); of the first dims + 2 m inputs, of the last 1
            output.
        biases: (outputs,).

    Returns:
        Shapes x.shape[:-1] and x.shape.

    Raises:
        MemoryError: there is none left.
    """
    lib = native.library(SOURCE)
    assert lib is not None
    x = x.contiguous()
    matrices = [m.contiguous() for m in (*weights, frequencies)]
    biases = [b.contiguous() for b in biases]
    f, gradient = x.new_empty(x.shape[:-1]), torch.empty_like(x)
    failed = lib.perceptron(
        ctypes.c_int64(len(x) if x.dim() == 3 else 1),
        ctypes.c_int64(x.shape[-2]),
        ctypes.c_int64(x.shape[-1]),
        ctypes.c_int64(frequencies.shape[-2]),
        len(weights) - 1,
        (ctypes.c_int64 * len(weights))(*(w.shape[-1] for w in weights)),
        (ctypes.c_void_p * len(matrices))(*(m.data_ptr() for m in matrices)),
        (ctypes.c_void_p * len(biases))(*(b.data_ptr() for b in biases)),
        ctypes.c_float(scale),
        ACTIVATIONS[activation],
        *(ctypes.c_void_p(t.data_ptr()) for t in (x, f, gradient)),
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError(f"no memory for {len(weights)} layers of a perceptron")
    return f, gradient


@torch.library.register_fake("ebmtrain::perceptron", lib=LIBRARY)
def shapes(x: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[:-1]), x.new_empty(x.shape)


@torch.library.register_vmap("ebmtrain::perceptron", lib=LIBRARY)
def of_members(info, dims, x, scale, frequencies, weights, biases, activation):  # noqa: ANN001, ANN201
    """Members in front."""

    def stacked(tensor: Tensor, dim: int | None) -> Tensor:
        if dim is None:
            return tensor.expand(info.batch_size, *tensor.shape)
        return tensor.movedim(dim, 0)

    found = torch.ops.ebmtrain.perceptron(
        stacked(x, dims[0]),
        scale,
        stacked(frequencies, dims[2]),
        list(map(stacked, weights, dims[3])),
        list(map(stacked, biases, dims[4])),
        activation,
    )
    return found, (0, 0)
