"""Ising model (Lenz, 1920; Ising, 1925), which statistics knows as the Boltzmann machine without
hidden units."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ebmtrain.models.sweep.ops import pair_sweep
from ebmtrain.torus import MAX_SIDE, MIN_SIDE, Torus, torus_bonds
from ebmtrain.types import Space


class IsingPairs(NamedTuple):
    """The energy E(s) = c - s'Js - h's of spins s = 2 x - 1 of states x."""

    couplings: Tensor
    """J, (sites, sites), symmetric, with zeros on its diagonal."""
    fields: Tensor
    """h, (sites,)."""
    constant: Tensor | float = 0.0
    """c, of shape ()."""

    def __call__(self, x: Tensor) -> Tensor:
        s = 2 * x.flatten(1) - 1
        return self.constant - ((s @ self.couplings + self.fields) * s).sum(1)

    def gradient(self, x: Tensor) -> Tensor:
        """dE/dx as a function of real x, the shape of x."""
        s = 2 * x.flatten(1) - 1
        return (-2 * (2 * s @ self.couplings + self.fields)).view(x.shape)

    def flip_differences(self, x: Tensor, sites: Tensor) -> Tensor:
        """E with one site flipped minus E(x), (batch, sites)."""
        s = 2 * x.flatten(1) - 1
        return 2 * s[:, sites] * (2 * s @ self.couplings[:, sites] + self.fields[sites])

    def gibbs_sweep(self, x: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """x after each site in turn is drawn given all others, by uniform numbers of its shape."""
        sign = torch.tensor([-1.0, 1.0]).to(x)
        couplings = 2 / temperature * self.couplings[..., None, None] * sign[:, None] * sign
        fields = self.fields[:, None] * sign / temperature
        return pair_sweep(x.flatten(1), uniform.flatten(1), couplings, fields).view(x.shape)

    def annealed(self, beta: float, logits: Tensor, temperature: float) -> IsingPairs:
        """(1 - beta) U + beta E / T, with U = -logits'x; logits are (sites,)."""
        scale, half = beta / temperature, (1 - beta) * logits / 2
        constant = scale * self.constant - half.sum()
        return IsingPairs(scale * self.couplings, half + scale * self.fields, constant)


class Ising(nn.Module):
    """E(x) = -s'Js - h's of spins s = 2 x - 1 of states x, with symmetric couplings J, zero on the
    diagonal: each pair counts twice.

    Couplings and fields start at 0. With `lattice: torus` only neighbours in rows and columns of an
    event (rows, columns), periodic, are coupled, and log Z is exact for up to 10 of either.

    Args:
        lattice: the pairs of sites that are coupled; null: all.
        fields: learn h too; else it is 0.
        event_shape: (*event), of x.

    Raises:
        ValueError: a torus needs events of at least 3 rows and 3 columns.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"binary"})
    bonds: Tensor
    h: Tensor

    def __init__(
        self,
        *,
        lattice: Literal["torus"] | None = None,
        fields: bool = False,
        event_shape: tuple[int, ...],
    ):
        super().__init__()
        self.event_shape, self.lattice = tuple(event_shape), lattice
        d = math.prod(event_shape)
        bonds = 1 - torch.eye(d)
        if lattice is not None:
            if len(event_shape) != 2 or min(event_shape) < MIN_SIDE:
                raise ValueError(
                    f"model.lattice=torus needs events of at least {MIN_SIDE} rows and columns, "
                    f"and these are of shape {tuple(event_shape)}: model.lattice=null"
                )
            bonds = torch.zeros(d, d)
            for neighbours in torus_bonds(*event_shape):
                bonds[torch.arange(d), neighbours] = bonds[neighbours, torch.arange(d)] = 1
        self.register_buffer("bonds", bonds, persistent=False)
        self.weight = nn.Parameter(torch.zeros(d, d))
        if fields:
            self.h = nn.Parameter(torch.zeros(d))
        else:
            self.register_buffer("h", torch.zeros(d), persistent=False)

    @property
    def couplings(self) -> Tensor:
        """J, (sites, sites)."""
        return (self.weight + self.weight.T) / 2 * self.bonds

    def pairs(self, kept: Tensor | None = None) -> IsingPairs:
        """The energy, of the couplings where `kept`, (sites, sites), is 1; None: of all."""
        return IsingPairs(self.couplings if kept is None else self.couplings * kept, self.h)

    def forward(self, x: Tensor) -> Tensor:
        return self.pairs()(x)

    def energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and its gradient as a function of real x."""
        pairs = self.pairs()
        return pairs(x), pairs.gradient(x)

    def flip_differences(self, x: Tensor, sites: Tensor) -> Tensor:
        """See `IsingPairs.flip_differences`."""
        return self.pairs().flip_differences(x, sites)

    def gibbs_sweep(self, x: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """See `IsingPairs.gibbs_sweep`."""
        return self.pairs().gibbs_sweep(x, uniform, temperature)

    def annealed(self, beta: float, logits: Tensor, temperature: float) -> IsingPairs:
        """See `IsingPairs.annealed`."""
        return self.pairs().annealed(beta, logits, temperature)

    def log_z(self, temperature: float) -> Tensor | None:
        """log Z of a torus of up to 10 rows and columns by transfer matrices; else None."""
        if self.lattice is None or max(self.event_shape) > MAX_SIDE:
            return None
        couplings, fields = (t.detach().cpu().double() / temperature for t in self.pairs()[:2])
        right, down = torus_bonds(*self.event_shape)
        sites = torch.arange(len(right))
        r, d = (2 * couplings[sites, to].view(self.event_shape) for to in (right, down))
        found = Torus(r, d, fields.view(self.event_shape)).log_z
        return torch.tensor(found, dtype=torch.float64).to(self.weight)
