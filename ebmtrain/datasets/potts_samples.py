"""Exact samples of sparse Potts models, without chains."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.support import Categorical
from ebmtrain.datasets.toy import SampleSize
from ebmtrain.errors import ConfigError
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Count, WholeNumber

Strength = Annotated[float, Ge(0), Le(5)]
_MAX_TABLE = 2**22  # entries of a table of the elimination, 32 MB


def potts_samples(
    *,
    sites: Annotated[int, Ge(2), Le(200)] = 20,
    states: Annotated[int, Ge(2), Le(26)] = 4,
    contacts: Count = 30,
    coupling_std: Strength = 0.7,
    field_std: Strength = 0.3,
    n_train: SampleSize = 5000,
    n_holdout: SampleSize = 5000,
    seed: WholeNumber,
) -> Points:
    """Independent samples of p(x) = exp(sum_i h_i(x_i) + sum_{i<j} J_ij(x_i, x_j)) / Z, whose J is
    not 0 for a few random pairs of sites, in the zero-sum gauge. Event (sites,), codes of the
    symbols A, B, ... The `truth` knows log Z, its entropy and J.

    Args:
        sites: L.
        states: q, number of symbols.
        contacts: pairs of sites that interact.
        coupling_std: standard deviation of the entries of their J, before their means are removed.
        field_std: standard deviation of h.
        n_train, n_holdout: number of points.
        seed: of the model and of both samples.

    Raises:
        ConfigError: more contacts than there are pairs, or too many for exact sums.
    """
    truth = SparsePotts.random(sites, states, contacts, coupling_std, field_std, seed)
    train = truth.sample(n_train, stream(seed, "train"))
    holdout = truth.sample(n_holdout, stream(seed, "holdout"))
    support = Categorical(string.ascii_uppercase[:states])
    units = support.standardization(train, False)
    return Points(train, holdout, standardization=units, truth=truth, support=support)


class _Elimination(NamedTuple):
    site: int
    others: tuple[int, ...]
    """Sites that the sum over the states of `site` depends on."""
    table: Tensor
    """log weights of the states of `site` given the others, (states, ..., states), its own last."""


@dataclass(frozen=True, eq=False)
class SparsePotts:
    """The Potts model with sums by variable elimination (Dechter, Artificial Intelligence 113,
    1999): exact, in time and memory of states^w, w small for a sparse graph.

    Args:
        couplings: J, (sites, states, sites, states), float64, as of `HasCouplings`.
        fields: h, (sites, states), float64.

    Raises:
        ConfigError: a table of the sums has more than 2^22 entries.
    """

    couplings: Tensor
    fields: Tensor

    @classmethod
    def random(
        cls, sites: int, states: int, contacts: int, coupling_std: float, field_std: float,
        seed: int,
    ) -> SparsePotts:  # fmt: skip
        """See `potts_samples`."""
        first, second = torch.triu_indices(sites, sites, 1)
        if contacts > len(first):
            raise ConfigError(
                f"dataset.contacts={contacts} of {sites} sites: there are {len(first)} pairs, "
                "lower dataset.contacts or raise dataset.sites"
            )
        g = stream(seed, "couplings")
        chosen = torch.randperm(len(first), generator=g)[:contacts]
        j = coupling_std * torch.randn(contacts, states, states, generator=g, dtype=torch.float64)
        j = j - j.mean(1, keepdim=True)
        j = j - j.mean(2, keepdim=True)
        couplings = torch.zeros(sites, states, sites, states, dtype=torch.float64)
        a, b = first[chosen], second[chosen]
        couplings[a, :, b], couplings[b, :, a] = j, j.transpose(1, 2)
        fields = field_std * torch.randn(sites, states, generator=g, dtype=torch.float64)
        return cls(couplings, fields - fields.mean(1, keepdim=True))

    def _eliminate(self, beta: Tensor) -> tuple[Tensor, list[_Elimination]]:
        """log Z of exp(-beta E), and each site's elimination, in their order."""
        n, states = self.fields.shape
        pairs = self.couplings.abs().sum((1, 3)).triu().nonzero().tolist()
        factors: list[tuple[tuple[int, ...], Tensor]]
        factors = [((i,), beta * self.fields[i]) for i in range(n)]
        factors += [((i, j), beta * self.couplings[i, :, j]) for i, j in pairs]
        log_z, steps, left = beta.new_zeros(()), [], set(range(n))
        while left:
            scopes = {i: {s for f, _ in factors if i in f for s in f} for i in left}
            site = min(left, key=lambda i: (len(scopes[i]), i))
            scope = tuple(sorted(scopes[site]))
            if states ** len(scope) > _MAX_TABLE:
                raise ConfigError(
                    f"exact sums over {n} sites with {len(pairs)} contacts need tables of "
                    f"{states}^{len(scope)} entries, more than {_MAX_TABLE:,}: lower "
                    "dataset.contacts or dataset.states"
                )
            table = sum(_spread(f, t, scope) for f, t in factors if site in f)
            assert isinstance(table, Tensor)
            table = table.movedim(scope.index(site), -1)
            others = tuple(i for i in scope if i != site)
            steps.append(_Elimination(site, others, table))
            factors = [(f, t) for f, t in factors if site not in f]
            if others:
                factors.append((others, table.logsumexp(-1)))
            else:
                log_z = log_z + table.logsumexp(-1)
            left.remove(site)
        return log_z, steps

    @cached_property
    def _sums(self) -> tuple[Tensor, list[_Elimination]]:
        return self._eliminate(torch.ones((), dtype=torch.float64))

    @property
    def log_z(self) -> float:
        return float(self._sums[0])

    @property
    def entropy(self) -> float:
        """log Z - d log Z / d beta of exp(-beta E) at beta = 1."""
        with torch.enable_grad():
            beta = torch.ones((), dtype=torch.float64, requires_grad=True)
            log_z, _ = self._eliminate(beta)
            (slope,) = torch.autograd.grad(log_z, beta)
        return float(log_z.detach() - slope)

    @property
    def modes(self) -> None:
        """Its likeliest states are no modes apart."""

    def sample(self, count: int, generator: Generator) -> Tensor:
        """(count, sites), codes: each site given those that were summed over later."""
        n, states = self.fields.shape
        x = torch.zeros(count, n, dtype=torch.int64)
        for site, others, table in reversed(self._sums[1]):
            row = torch.zeros(count, dtype=torch.int64)
            for other in others:
                row = row * states + x[:, other]
            below = table.reshape(-1, states).softmax(1).cumsum(1)[:, :-1]
            uniform = torch.rand(count, 1, generator=generator, dtype=torch.float64)
            x[:, site] = (uniform > below[row]).sum(1)
        return x.double()

    def log_prob(self, x: Tensor) -> Tensor:
        hot = one_hot(x.long(), self.fields.shape[1]).to(x)
        pairs = hot.flatten(1) @ self.couplings.to(x).flatten(2).flatten(0, 1)
        local = pairs.view(hot.shape) / 2 + self.fields.to(x)
        return (hot * local).sum((1, 2)) - self.log_z


def _spread(own: Sequence[int], table: Tensor, scope: Sequence[int]) -> Tensor:
    """A table over some of the sites of `scope`, both in ascending order, with axes of length 1 for
    the others."""
    states = table.shape[0]
    return table.view([states if i in own else 1 for i in scope])
