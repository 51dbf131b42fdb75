"""Bars and stripes (MacKay, Information Theory, Inference, and Learning Algorithms, 2003)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.support import BINARY
from ebmtrain.types import SmallCount

Side = Annotated[int, Ge(2), Le(8)]


def bars_and_stripes(*, side: Side = 3, copies: SmallCount = 64) -> Points:
    """Square images whose rows are all 0 or 1, each with probability 1/2, or whose columns are: the
    2^(side + 1) equally probable patterns, of which the empty and the full image occur twice. Event
    (side, side), states 0 and 1.

    The held-out points are the patterns, each once: their NLL is the exact cross entropy of the
    distribution and the model, with its entropy as the least value, 16 x 2.599 = 41.589 nats in all
    for a side of 3.

    Args:
        side: of the images.
        copies: of the patterns among the training points.
    """
    truth = _Patterns(side)
    train = truth.patterns.repeat(copies, 1, 1)
    units = BINARY.standardization(train, False)
    return Points(
        train, truth.patterns, standardization=units, truth=truth, support=BINARY, pixels=(0, 1)
    )


@dataclass(frozen=True, eq=False)
class _Patterns:
    """The uniform distribution over patterns that are counted with their copies."""

    side: int
    patterns: Tensor = field(init=False)
    """(2^(side + 1), side, side)"""

    def __post_init__(self) -> None:
        bits = torch.arange(self.side)
        lines = ((torch.arange(2**self.side)[:, None] >> bits) & 1).double()
        rows = lines[:, :, None].expand(-1, self.side, self.side)
        object.__setattr__(self, "patterns", torch.cat([rows, rows.transpose(1, 2)]))

    def sample(self, count: int, generator: Generator) -> Tensor:
        rows = torch.randint(len(self.patterns), (count,), generator=generator)
        return self.patterns[rows]

    def log_prob(self, x: Tensor) -> Tensor:
        """log of the share of the patterns that equal x, (n, side, side) -> (n,)."""
        same = (x.flatten(1)[:, None] == self.patterns.flatten(1).to(x)).all(2)
        return (same.sum(1).to(x) / len(self.patterns)).log()

    @property
    def modes(self) -> None:
        """There is no density around the patterns."""

    @property
    def entropy(self) -> float:
        n = len(self.patterns)
        return (n - 4) / n * math.log(n) + 4 / n * math.log(n / 2)
