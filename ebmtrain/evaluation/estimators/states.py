"""Sums over all points of {0, 1}^d."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

MAX_SITES = 22
_CHUNK = 2**14


def all_states(d: int) -> Iterator[Tensor]:
    """All 2^d points of {0, 1}^d in blocks, (n, d) float64; d <= MAX_SITES. The first element is
    the lowest bit of the number of a point."""
    bits = torch.arange(d)
    for index in torch.arange(2**d).split(_CHUNK):
        yield ((index[:, None] >> bits) & 1).double()


@torch.no_grad()
def over_all_states(function: Callable[[Tensor], Tensor], d: int) -> Tensor:
    """function of all points of {0, 1}^d, (n, d) -> (n,), as (2^d,)."""
    return torch.cat([function(x) for x in all_states(d)])
