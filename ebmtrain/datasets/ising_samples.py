"""Exact samples of Ising models on a torus, without chains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.support import BINARY
from ebmtrain.datasets.toy import SampleSize
from ebmtrain.runtime.seeding import stream
from ebmtrain.torus import MAX_SIDE, MIN_SIDE, Torus, torus_bonds
from ebmtrain.types import WholeNumber

Side = Annotated[int, Ge(MIN_SIDE), Le(MAX_SIDE)]
Coupling = Annotated[float, Ge(-5), Le(5)]


def ising_samples(
    *,
    side: Side = 10,
    sigma: Coupling = 0.1,
    n_train: SampleSize = 2000,
    n_holdout: SampleSize = 2000,
    seed: WholeNumber,
) -> Points:
    """Independent samples of p(s) = exp(s'Js) / Z, J = sigma times the adjacency matrix of a torus
    of side x side sites, as in EB-GFN (Zhang et al., ICML 2022): s = -1, 1 are the states 0 and 1.
    Event (side, side). The `truth` knows log Z, its entropy and J.

    Args:
        side: rows and columns.
        sigma: of neighbours; negative: antiferromagnetic.
        n_train, n_holdout: number of points.
        seed: of both samples.
    """
    truth = IsingTorus(side, sigma)
    train = truth.sample(n_train, stream(seed, "train"))
    holdout = truth.sample(n_holdout, stream(seed, "holdout"))
    units = BINARY.standardization(train, False)
    return Points(
        train, holdout, standardization=units, truth=truth, support=BINARY, pixels=(0.0, 1.0)
    )


@dataclass(frozen=True)
class IsingTorus:
    """The Ising model on a torus of side x side sites."""

    side: int
    sigma: float

    @cached_property
    def _torus(self) -> Torus:
        bonds = torch.full((self.side, self.side), 2 * self.sigma, dtype=torch.float64)
        return Torus(bonds, bonds, torch.zeros_like(bonds))

    @property
    def log_z(self) -> float:
        return self._torus.log_z

    @property
    def couplings(self) -> Tensor:
        """J, (sites, sites), float64."""
        j = torch.zeros(self.side**2, self.side**2, dtype=torch.float64)
        for neighbours in torus_bonds(self.side, self.side):
            sites = torch.arange(self.side**2)
            j[sites, neighbours] = j[neighbours, sites] = self.sigma
        return j

    def sample(self, count: int, generator: Generator) -> Tensor:
        """(count, side, side), states 0 and 1."""
        return (self._torus.sample(count, generator) + 1) / 2

    def log_prob(self, x: Tensor) -> Tensor:
        s = 2 * x - 1
        neighbours = s.roll(-1, 1) + s.roll(-1, 2)
        return 2 * self.sigma * (s * neighbours).flatten(1).sum(1) - self.log_z

    @property
    def modes(self) -> None:
        """Its two ground states are no modes apart at high temperature."""

    @property
    def entropy(self) -> float:
        """log Z + <E>, <E> by the correlation of neighbours in a row."""
        s, p = self._torus.first_row
        correlation = float(p @ (s * s.roll(-1, 1)).mean(1))
        return self.log_z - 4 * self.sigma * self.side**2 * correlation
