"""CUDA implementation of the chain operations declared in ops.py, by the kernels in
triton_kernel.py."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ebmtrain.models.perceptron.ops import ACTIVATIONS, LIBRARY, Network


def _contiguous_network(x: Tensor, network: Network) -> Network:
    """The network with contiguous tensors.

    Raises:
        ValueError: the shapes or types of points and layers do not match. A kernel would read out
            of bounds.
    """
    scale, activation, frequencies, weights, biases = network
    *members, _, dims = x.shape
    sizes = [dims + 2 * frequencies.shape[-2], *(w.shape[-2] for w in weights)]
    expected = [(*members, frequencies.shape[-2], dims)]
    expected += [(*members, n_out, n_in) for n_in, n_out in pairwise(sizes)]
    expected += [(*members, n_out) for n_out in sizes[1:]]
    tensors = [frequencies, *weights, *biases]
    if (
        [tuple(t.shape) for t in tensors] != expected
        or len(members) > 1
        or sizes[-1] != 1
        or any(t.dtype != torch.float32 for t in (x, *tensors))
        or activation not in ACTIVATIONS
    ):
        raise ValueError(
            f"points of shape {tuple(x.shape)} do not fit a perceptron of float32 and {activation} "
            f"whose layers are {', '.join(str(tuple(w.shape)) for w in weights)}, with frequencies "
            f"{tuple(frequencies.shape)}"
        )
    return Network(
        scale, activation, frequencies.contiguous(), [w.contiguous() for w in weights],
        [b.contiguous() for b in biases],
    )  # fmt: skip


def _contiguous(name: str, t: Tensor, shape: Sequence[int]) -> Tensor:
    """The tensor, contiguous.

    Raises:
        ValueError: it is not a float32 tensor of this shape.
    """
    if t.shape != torch.Size(shape) or t.dtype != torch.float32:
        raise ValueError(
            f"{name} {tuple(t.shape)} of {t.dtype} does not fit: it has to be {tuple(shape)} of "
            "float32"
        )
    return t.contiguous()


@torch.library.impl(LIBRARY, "perceptron_langevin", "CUDA")
def _langevin(x: Tensor, *arguments: Any) -> Tensor:
    from ebmtrain.models.perceptron import triton_kernel

    *network, noise, precision, sizes, scales = arguments
    if len(scales) != len(sizes):
        raise ValueError(f"{len(scales)} scales do not fit {len(sizes)} sizes")
    *members, n, dims = x.shape
    noise = _contiguous("noise", noise, (*members, len(sizes), n, dims))
    layers = _contiguous_network(x, Network(*network))
    return triton_kernel.run_langevin(x.contiguous(), layers, noise, precision, sizes, scales)


@torch.library.impl(LIBRARY, "perceptron_leapfrog", "CUDA")
def _leapfrog(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from ebmtrain.models.perceptron import triton_kernel

    *network, momentum, gradient, eps, precision, temperature, steps = arguments
    momentum = _contiguous("momentum", momentum, x.shape)
    gradient = _contiguous("gradient", gradient, x.shape)
    eps = _contiguous("eps", eps, x.shape[:-1])
    layers = _contiguous_network(x, Network(*network))
    return triton_kernel.run_leapfrog(
        x.contiguous(), layers, momentum, gradient, eps, precision, temperature, steps
    )
