"""TODO ebmtrain/models/perceptron/layout.py."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ebmtrain.models.perceptron.ops import Network

_MAX_DIMS = 16  # of points


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
        return _power_of_two(self.dims)

    @property
    def phases(self) -> int:
        return _power_of_two(self.n_frequencies) if self.n_frequencies else 0

    @property
    def width(self) -> int:
        return _power_of_two(max(self.units))

    def shared_memory_bytes(self) -> int:
        """Bytes, at most: 6 for each weight, and for each number that 16 chains hand from layer to
        layer."""
        first = self.width * self.rows + self.phases * self.rows + 2 * self.width * self.phases
        further = (len(self.units) - 1) * self.width**2
        return 6 * (first + further + 16 * max(self.rows, self.phases, self.width))

    def fits(self, shared_memory: int) -> bool:
        """Whether a processor of the GPU with so many bytes holds all weights, and points have few
        coordinates: the kernel takes the sums for them one after the other."""
        return self.dims <= _MAX_DIMS and self.shared_memory_bytes() <= shared_memory


def _power_of_two(n: int) -> int:
    """Not below n, and not below 16, the least that products take."""
    return max(16, 1 << (n - 1).bit_length())
