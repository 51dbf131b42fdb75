"""Sizes of a network as compile-time constants of the GPU kernel, and the memory it needs."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ebmtrain.models.perceptron.ops import Network

_MAX_DIMS = 16  # coordinates of a point


class Layout(NamedTuple):
    """Activation and sizes for which a kernel is compiled; see triton_kernel.py."""

    activation: str
    dims: int
    n_frequencies: int
    units: tuple[int, ...]
    """Units of each hidden layer."""

    @classmethod
    def of(cls, x: Tensor, network: Network) -> Layout:
        units = tuple(int(w.shape[-2]) for w in network.weights[:-1])
        return cls(network.activation, x.shape[-1], network.frequencies.shape[-2], units)

    @property
    def rows(self) -> int:
        """Rows of a block of points: `dims`, padded."""
        return _power_of_two(self.dims)

    @property
    def phases(self) -> int:
        """Rows of a block of phases: `n_frequencies`, padded; 0 without frequencies."""
        return _power_of_two(self.n_frequencies) if self.n_frequencies else 0

    @property
    def width(self) -> int:
        """Rows of a block of units: those of the widest hidden layer, padded."""
        return _power_of_two(max(self.units))

    def shared_memory_bytes(self) -> int:
        """An upper bound: 6 bytes for each weight, and for each activation of a layer and 16
        chains."""
        first = self.width * self.rows + self.phases * self.rows + 2 * self.width * self.phases
        hidden = (len(self.units) - 1) * self.width**2
        return 6 * (first + hidden + 16 * max(self.rows, self.phases, self.width))

    def fits(self, shared_memory: int) -> bool:
        """Whether all weights fit into this many bytes of shared memory, and points have at most 16
        coordinates: the kernel computes the gradient one coordinate after another."""
        return self.dims <= _MAX_DIMS and self.shared_memory_bytes() <= shared_memory


def _power_of_two(n: int) -> int:
    """The least power of two that is at least n and at least 16, the smallest size of a product."""
    return max(16, 1 << (n - 1).bit_length())
