"""Densities of the plane as binary states: the cells of a grid in Gray code (Gray, 1953)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.support import BINARY
from ebmtrain.datasets.toy import IndependentSamples, SampleSize
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Density, Positive, WholeNumber

_CHUNK = 65_536
_TABLE_BITS = 8  # of a coordinate, up to which all cells are kept with their masses
_NODE = 0.5 / math.sqrt(3)  # of Gauss-Legendre quadrature with two nodes, in widths of a cell


def gray_toy(
    *,
    density: Density,
    bits: Annotated[int, Ge(2), Le(16)] = 8,
    half_width: Positive = 5.0,
    n_train: SampleSize = 100_000,
    n_holdout: SampleSize = 20_000,
    fresh: bool = False,
    seed: WholeNumber,
) -> Points:
    """Two independent samples of a density of the plane, on a square grid of 2^bits cells along
    each axis. Event (2, bits): the Gray codes of the two coordinates of a cell, highest bit first,
    in which neighbours differ by one bit. Points outside of the grid are drawn again.

    Args:
        density: of the plane; the probabilities of its cells are the `truth` of the data set.
        bits: of each coordinate; 8 of each are 65,536 cells, of which log Z and KL are exact.
        half_width: of the grid, centred at the origin, in units of the density.
        n_train, n_holdout: number of points.
        fresh: sample every batch from `density` instead of the n_train points.
        seed: of both samples.
    """
    truth = _GrayCells(density, bits, half_width)
    train = truth.sample(n_train, stream(seed, "train"))
    return Points(
        train, truth.sample(n_holdout, stream(seed, "holdout")), truth=truth, support=BINARY,
        standardization=BINARY.standardization(train, False),
        source=IndependentSamples(truth) if fresh else None,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _GrayCells:
    """The probabilities of a density's cells, given that a point is in one of them, by two nodes of
    Gauss-Legendre quadrature along each axis of a cell, or of smaller ones if it is large."""

    density: Density
    bits: int
    half_width: float

    @property
    def _width(self) -> float:
        return 2 * self.half_width / 2**self.bits

    def sample(self, count: int, generator: Generator) -> Tensor:
        """(count, 2, bits), states 0 and 1."""
        x = torch.empty(0, 2, dtype=torch.float64)
        while len(x) < count:
            new = self.density.sample(count - len(x), generator)
            x = torch.cat([x, new[(new.abs() < self.half_width).all(1)]])
        return self._encode(((x + self.half_width) / self._width).long())

    def log_prob(self, x: Tensor) -> Tensor:
        """log of the probability of a cell, (n, 2, bits) -> (n,)."""
        cells = self._decode(x)
        if self.bits <= _TABLE_BITS:
            table = self._log_masses(self.bits).to(x)
            return table[cells[:, 0], cells[:, 1]] - self._log_total
        centres = (cells.double() + 0.5) * self._width - self.half_width
        masses = [self._log_mass(part, self._width) for part in centres.split(_CHUNK)]
        return torch.cat(masses).to(x) - self._log_total

    @property
    def modes(self) -> None:
        """There is no density around them."""

    @property
    def entropy(self) -> float:
        """Of more than 8 bits that of the density in units of a cell."""
        if self.bits > _TABLE_BITS:
            return self.density.entropy - 2 * math.log(self._width)
        log_p = self._log_masses(self.bits) - self._log_total
        return -float(torch.where(log_p > -math.inf, log_p.exp() * log_p, 0.0).sum())

    def _encode(self, cells: Tensor) -> Tensor:
        """Numbers of cells along the axes, (n, 2) int64 -> (n, 2, bits)."""
        gray = cells ^ (cells >> 1)
        return ((gray[..., None] >> torch.arange(self.bits - 1, -1, -1)) & 1).double()

    def _decode(self, x: Tensor) -> Tensor:
        """The inverse of `_encode`."""
        ones = x.long().cumsum(-1) % 2  # a bit of the number is the parity of the higher Gray bits
        return (ones << torch.arange(self.bits - 1, -1, -1)).sum(-1)

    def _log_mass(self, centres: Tensor, width: float) -> Tensor:
        """log of the mass of square cells, (n, 2) -> (n,)."""
        signs = torch.tensor([-1.0, 1.0], dtype=torch.float64) * _NODE * width
        nodes = centres[:, None] + torch.cartesian_prod(signs, signs)
        log_p = self.density.log_prob(nodes.flatten(0, 1)).view(-1, 4)
        return log_p.logsumexp(1) + math.log(width**2 / 4)

    @cached_property
    def _finest(self) -> Tensor:
        """log masses of 256 x 256 cells."""
        width = 2 * self.half_width / 2**_TABLE_BITS
        axis = (torch.arange(2**_TABLE_BITS).double() + 0.5) * width - self.half_width
        parts = torch.cartesian_prod(axis, axis).split(_CHUNK // 4)
        side = 2 * (2**_TABLE_BITS,)
        return torch.cat([self._log_mass(part, width) for part in parts]).view(side)

    def _log_masses(self, bits: int) -> Tensor:
        """Of 2^bits x 2^bits cells, bits <= 8."""
        n, each = 2**bits, 2 ** (_TABLE_BITS - bits)
        return self._finest.view(n, each, n, each).logsumexp((1, 3))

    @cached_property
    def _log_total(self) -> float:
        return float(self._finest.flatten().logsumexp(0))
