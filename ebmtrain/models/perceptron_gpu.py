"""Steps of chains on NVIDIA's GPUs: the operations of perceptron_library.py for tensors there,
which perceptron_triton.py makes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebmtrain.models.perceptron_library import ACTIVATIONS, LIBRARY, Network

MOST_DIMS = 16  # of points


class Layout(NamedTuple):
    """What a kernel on a GPU is made for; see perceptron_triton.py."""

    activation: str
    dims: int
    n_frequencies: int
    units: tuple[int, ...]
    """Of the hidden layers."""

    @classmethod
    def of(cls, x: Tensor, network: Network) -> Layout:
        units = tuple(int(w.shape[-2]) for w in network.weights[:-1])
        return cls(network.activation, x.shape[-1], network.frequencies.shape[-2], units)

    @property
    def rows(self) -> int:
        """Of blocks of points; the next two of phases and of units."""
        return power_of_two(self.dims)

    @property
    def phases(self) -> int:
        return power_of_two(self.n_frequencies) if self.n_frequencies else 0

    @property
    def width(self) -> int:
        return power_of_two(max(self.units))

    def shared_memory(self) -> int:
        """Bytes, at most: 6 for each weight, and for each number that 16 chains hand from layer to
        layer."""
        first = self.width * self.rows + self.phases * self.rows + 2 * self.width * self.phases
        further = (len(self.units) - 1) * self.width**2
        return 6 * (first + further + 16 * max(self.rows, self.phases, self.width))

    def fits(self, shared_memory: int) -> bool:
        """Whether a processor of the GPU with so many bytes holds all weights, and points have few
        coordinates: the kernel takes the sums for them one after the other."""
        return self.dims <= MOST_DIMS and self.shared_memory() <= shared_memory


def power_of_two(n: int) -> int:
    """Not below n, and not below 16, the least that products take."""
    return max(16, 1 << (n - 1).bit_length())


def dense(x: Tensor, network: Network) -> Network:
    """Without gaps in memory.

    Raises:
        ValueError: points and layers do not fit together: a kernel would read what is not theirs.
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


def fitting(name: str, t: Tensor, shape: Sequence[int]) -> Tensor:
    """Without gaps in memory.

    Raises:
        ValueError: it is not float32 of this shape.
    """
    if t.shape != torch.Size(shape) or t.dtype != torch.float32:
        raise ValueError(
            f"{name} {tuple(t.shape)} of {t.dtype} does not fit: it has to be {tuple(shape)} of "
            "float32"
        )
    return t.contiguous()


@torch.library.impl(LIBRARY, "perceptron_langevin", "CUDA")
def langevin(x: Tensor, *arguments: Any) -> Tensor:
    from ebmtrain.models import perceptron_triton  # takes a while, and is not everywhere

    *network, noise, precision, sizes, scales = arguments
    if len(scales) != len(sizes):
        raise ValueError(f"{len(scales)} scales do not fit {len(sizes)} sizes")
    *members, n, dims = x.shape
    noise = fitting("noise", noise, (*members, len(sizes), n, dims))
    layers = dense(x, Network(*network))
    return perceptron_triton.langevin(x.contiguous(), layers, noise, precision, sizes, scales)


@torch.library.impl(LIBRARY, "perceptron_leapfrog", "CUDA")
def leapfrog(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from ebmtrain.models import perceptron_triton

    *network, momentum, gradient, eps, precision, temperature, steps = arguments
    momentum = fitting("momentum", momentum, x.shape)
    gradient = fitting("gradient", gradient, x.shape)
    eps = fitting("eps", eps, x.shape[:-1])
    layers = dense(x, Network(*network))
    return perceptron_triton.leapfrog(
        x.contiguous(), layers, momentum, gradient, eps, precision, temperature, steps
    )
