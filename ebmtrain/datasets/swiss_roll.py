"""Swiss roll: a spiral with Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.quadrature import (
    gauss_legendre,
    log_gaussian_sum,
    node_count,
    plane_entropy,
)
from ebmtrain.types import Positive

_START, _END = 1.5 * math.pi, 4.5 * math.pi


@dataclass(frozen=True, kw_only=True)
class SwissRoll:
    """x = t (cos t, sin t) / 5 + N(0, std^2 I), with t uniform on (1.5 pi, 4.5 pi).

    The first and third coordinate of scikit-learn's make_swiss_roll, divided by 5, as in FFJORD
    (Grathwohl et al., arXiv:1810.01367, code).

    Args:
        std: > 0, of the noise along each axis, in units of x (a fifth of the `noise` of
            make_swiss_roll).
    """

    std: Positive = 0.2
    modes: ClassVar[None] = None

    def sample(self, count: int, generator: Generator) -> Tensor:
        like = {"dtype": torch.float64, "device": generator.device}
        t = _START + (_END - _START) * torch.rand(count, **like, generator=generator)
        return _roll(t) + self.std * torch.randn(count, 2, **like, generator=generator)

    @cached_property
    def _nodes(self) -> tuple[Tensor, Tensor]:
        # The speed of the curve is largest at its end, so this is an upper bound on its length.
        length = (_END - _START) * math.hypot(1, _END) / 5
        t, weights = gauss_legendre(_START, _END, node_count(length, self.std))
        return _roll(t), weights / (_END - _START)

    def log_prob(self, x: Tensor) -> Tensor:
        return log_gaussian_sum(x, *self._nodes, self.std)

    @cached_property
    def entropy(self) -> float:
        reach = _END / 5 + 8 * self.std
        return plane_entropy(self.log_prob, (-reach, -reach), (reach, reach), self.std / 2)


def _roll(t: Tensor) -> Tensor:
    return torch.stack([t * t.cos(), t * t.sin()], 1) / 5
