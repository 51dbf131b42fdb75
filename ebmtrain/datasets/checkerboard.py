"""Checkerboard: uniform on every other square."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ebmtrain.types import Positive, SmallCount


@dataclass(frozen=True, kw_only=True)
class Checkerboard:
    """Uniform on the squares (i, j) with i + j even of a board centred at the origin.

    The default is FFJORD's (Grathwohl et al., arXiv:1810.01367, code): 8 squares of side 2 on
    (-4, 4)^2. log_prob is -inf outside them, so only KL(truth || model) is finite.

    Args:
        squares: number of squares along one side of the board.
        side: > 0, length of a square's side, in units of x.
    """

    squares: SmallCount = 4
    side: Positive = 2.0
    modes: ClassVar[None] = None

    def sample(self, count: int, generator: Generator) -> Tensor:
        like = {"dtype": torch.float64, "device": generator.device}
        i, j = self._filled().to(generator.device).unbind(1)
        which = torch.randint(len(i), (count,), device=generator.device, generator=generator)
        corner = torch.stack([i[which], j[which]], 1) - self.squares / 2
        return self.side * (corner + torch.rand(count, 2, **like, generator=generator))

    def log_prob(self, x: Tensor) -> Tensor:
        square = (x / self.side + self.squares / 2).floor()
        on_board = ((square >= 0) & (square < self.squares)).all(1)
        filled = on_board & (square.sum(1) % 2 == 0)
        return torch.where(filled, -self.entropy, -math.inf).to(x.dtype)

    @property
    def entropy(self) -> float:
        """log of the area of the filled squares, in nats."""
        return math.log(len(self._filled()) * self.side**2)

    def _filled(self) -> Tensor:
        i, j = torch.meshgrid(*2 * [torch.arange(self.squares)], indexing="ij")
        return torch.nonzero((i + j) % 2 == 0)
