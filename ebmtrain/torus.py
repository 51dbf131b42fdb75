"""Exact sums over Ising models on a torus by transfer matrices (Kramers & Wannier, 1941)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Generator, Tensor

MIN_SIDE, MAX_SIDE = 3, 10
"""Of the rows and columns: narrower tori have two bonds between two sites, and a transfer matrix of
wider ones does not fit into memory."""
_CHUNK = 2048  # samples at a time


class _Scaled(NamedTuple):
    """exp(log_scale) * matrix."""

    matrix: Tensor
    log_scale: float


@dataclass(frozen=True, eq=False)
class Torus:
    """exp(sum_rc right_rc s_rc s_r,c+1 + down_rc s_rc s_r+1,c + field_rc s_rc) / Z of spins
    s = -1, 1 on rows x columns sites, periodic in both directions.

    Z = tr(M_1 ... M_rows), M_r = diag(w_r) T_r with w_r(s) the weight of a row, and T_r that of the
    bonds between it and the next one.

    Args:
        right, down, field: (rows, columns), float64, in units of the temperature.
    """

    right: Tensor
    down: Tensor
    field: Tensor

    @cached_property
    def _spins(self) -> Tensor:
        """The states of a row, (2^columns, columns)."""
        columns = self.field.shape[1]
        return 2.0 * ((torch.arange(2**columns)[:, None] >> torch.arange(columns)) & 1).double() - 1

    def _transfer(self, row: int) -> Tensor:
        """log T_r, (2^columns, 2^columns)."""
        return self._spins * self.down[row] @ self._spins.T

    def _row_log_weights(self, row: int) -> Tensor:
        """log w_r, (2^columns,)."""
        s = self._spins
        return (s * s.roll(-1, 1)) @ self.right[row] + s @ self.field[row]

    @cached_property
    def _products(self) -> list[_Scaled]:
        """M_r ... M_rows of each row r."""
        found: list[_Scaled] = []
        for row in reversed(range(len(self.field))):
            log_m = self._row_log_weights(row)[:, None] + self._transfer(row)
            scale = float(log_m.max())
            matrix = (log_m - scale).exp()
            if found:
                matrix, scale = matrix @ found[-1].matrix, scale + found[-1].log_scale
                largest = matrix.max()
                matrix, scale = matrix / largest, scale + float(largest.log())
            found.append(_Scaled(matrix, scale))
        return found[::-1]

    @property
    def log_z(self) -> float:
        matrix, scale = self._products[0]
        return float(matrix.diagonal().sum().log()) + scale

    @property
    def first_row(self) -> tuple[Tensor, Tensor]:
        """The states of the first row, (2^columns, columns), and their probabilities."""
        p = self._products[0].matrix.diagonal()
        return self._spins, p / p.sum()

    def sample(self, count: int, generator: Generator) -> Tensor:
        """Independent samples, (count, rows, columns), -1 and 1, float64."""
        chunks = [min(_CHUNK, count - n) for n in range(0, count, _CHUNK)]
        return torch.cat([self._sample(n, generator) for n in chunks])

    def _sample(self, count: int, generator: Generator) -> Tensor:
        first = torch.multinomial(self.first_row[1], count, True, generator=generator)
        rows = [first]
        for r in range(1, len(self.field)):
            transfer = self._transfer(r - 1)[rows[-1]]
            p = (transfer - transfer.amax(1, keepdim=True)).exp()
            p = p * self._products[r].matrix[:, first].T
            rows.append(torch.multinomial(p, 1, generator=generator).squeeze(1))
        return self._spins[torch.stack(rows, 1)]


def torus_bonds(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """The right and the lower neighbour of each site of a torus, (rows * columns,) int64 each."""
    sites = torch.arange(rows * columns).view(rows, columns)
    return sites.roll(-1, 1).flatten(), sites.roll(-1, 0).flatten()
