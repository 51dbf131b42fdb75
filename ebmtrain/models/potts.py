"""Potts model (Potts, 1952): symbols that interact in pairs, as in direct coupling analysis of
sequence families (Morcos et al., PNAS 108(49), 2011)."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ebmtrain.models.sweep.ops import pair_sweep
from ebmtrain.types import Positive, Space


class PottsPairs(NamedTuple):
    """The energy E(x) = -sum_i h_i(x_i) - sum_{i<j} J_ij(x_i, x_j)."""

    couplings: Tensor
    """J, (sites, states, sites, states), with J_ij(a, b) = J_ji(b, a) and J_ii = 0."""
    fields: Tensor
    """h, (sites, states)."""

    def _local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One-hot states, (batch, sites, states), and sum_j J_ij(a, x_j) of each site and state."""
        states = self.fields.shape[1]
        hot = one_hot(x.flatten(1).long().clamp(0, states - 1), states).to(self.fields)
        pairs = hot.flatten(1) @ self.couplings.flatten(2).flatten(0, 1)
        return hot, pairs.view(hot.shape)

    def __call__(self, x: Tensor) -> Tensor:
        hot, pairs = self._local(x)
        return -(hot * (pairs / 2 + self.fields)).flatten(1).sum(1)

    def conditional_nll(self, x: Tensor, sites: Tensor, temperature: float) -> Tensor:
        """-log p(x_i | all other x) of exp(-E / T), (batch, sites)."""
        hot, pairs = self._local(x)
        log_p = torch.log_softmax((pairs + self.fields) / temperature, 2)
        return -(hot * log_p).sum(2)[:, sites]

    def gibbs_sweep(self, x: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """x after each site in turn is drawn given all others, by uniform numbers of its shape."""
        couplings = self.couplings.permute(0, 2, 3, 1) / temperature
        fields = self.fields / temperature
        return pair_sweep(x.flatten(1), uniform.flatten(1), couplings, fields).view(x.shape)


class Potts(nn.Module):
    """E(x) = -sum_i h_i(x_i) - sum_{i<j} J_ij(x_i, x_j) of codes x of symbols.

    Couplings start at 0, fields at log((f + pseudocount / q) / (1 + pseudocount)), f the
    frequencies of the q symbols in the training data.

    Args:
        pseudocount: > 0, of the initial fields.
        event_shape: (sites,).
        states: q, number of symbols.
        training_points: (n, sites), codes; None: the weights will be loaded.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"categorical"})
    other_sites: Tensor

    def __init__(
        self,
        *,
        pseudocount: Positive = 0.01,
        event_shape: tuple[int, ...],
        states: int,
        training_points: Tensor | None = None,
    ):
        super().__init__()
        d = math.prod(event_shape)
        fields = torch.zeros(d, states)
        if training_points is not None:
            fields = log_frequencies(training_points.flatten(1), states, pseudocount).to(fields)
            fields = fields - fields.mean(1, keepdim=True)
        self.fields = nn.Parameter(fields)
        self.weight = nn.Parameter(torch.zeros(d, states, d, states))
        other = (1 - torch.eye(d))[:, None, :, None]
        self.register_buffer("other_sites", other, persistent=False)

    @property
    def couplings(self) -> Tensor:
        """J, (sites, states, sites, states)."""
        return (self.weight + self.weight.permute(2, 3, 0, 1)) / 2 * self.other_sites

    def pairs(self) -> PottsPairs:
        return PottsPairs(self.couplings, self.fields)

    def forward(self, x: Tensor) -> Tensor:
        return self.pairs()(x)

    def conditional_nll(self, x: Tensor, sites: Tensor, temperature: float) -> Tensor:
        """See `PottsPairs.conditional_nll`."""
        return self.pairs().conditional_nll(x, sites, temperature)

    def gibbs_sweep(self, x: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """See `PottsPairs.gibbs_sweep`."""
        return self.pairs().gibbs_sweep(x, uniform, temperature)

    def annealed(self, beta: float, logits: Tensor, temperature: float) -> PottsPairs:
        """(1 - beta) U + beta E / T, with U = -sum_i logits_i(x_i); logits are (sites, states)."""
        scale = beta / temperature
        return PottsPairs(scale * self.couplings, scale * self.fields + (1 - beta) * logits)

    @torch.no_grad()
    def contacts(self) -> Tensor:
        """See `contact_scores`."""
        return contact_scores(self.couplings.double())


def contact_scores(couplings: Tensor) -> Tensor:
    """Scores of contact of each pair, (sites, sites): the Frobenius norm of the couplings in the
    zero-sum gauge, with average-product correction (Ekeberg et al., Physical Review E 87, 2013;
    Dunn, Wahl & Gloor, Bioinformatics 24(3), 2008)."""
    norm = zero_sum(couplings).square().sum((1, 3)).sqrt()
    n = len(norm)
    mean = norm.sum(1) / (n - 1)
    score = norm - mean[:, None] * mean / (norm.sum() / (n * (n - 1))).clamp(min=1e-300)
    return score.fill_diagonal_(0.0)


def zero_sum(couplings: Tensor) -> Tensor:
    """The couplings of the same distribution whose sums over either symbol are 0."""
    first = couplings - couplings.mean(1, keepdim=True)
    return first - first.mean(3, keepdim=True)


def log_frequencies(x: Tensor, states: int, pseudocount: float = 0.01) -> Tensor:
    """log of the frequencies of symbols, (n, sites) -> (sites, states), float64."""
    f = one_hot(x.long(), states).double().mean(0)
    return ((f + pseudocount / states) / (1 + pseudocount)).log()
