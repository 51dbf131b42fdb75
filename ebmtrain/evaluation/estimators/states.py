"""Sums over all points of {0, ..., q - 1}^d."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

MAX_STATES = 2**22
_CHUNK = 2**14


def all_states(d: int, q: int = 2) -> Iterator[Tensor]:
    """All q^d points in blocks, (n, d) float64; q^d <= MAX_STATES. The first element is the lowest
    digit of the number of a point."""
    places = torch.tensor([q**i for i in range(d)])
    for index in torch.arange(q**d).split(_CHUNK):
        yield (index[:, None] // places % q).double()


@torch.no_grad()
def over_all_states(function: Callable[[Tensor], Tensor], d: int, q: int) -> Tensor:
    """function of all points, (n, d) -> (n,), as (q^d,)."""
    return torch.cat([function(x) for x in all_states(d, q)])
