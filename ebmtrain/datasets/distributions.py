"""Distributions of one real number, for synthetic data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from ebmtrain.types import Positive


class ScalarDistribution(Protocol):
    """A distribution on the real line."""

    def sample(self, shape: tuple[int, ...], generator: Generator) -> Tensor:
        """Independent samples of this shape, float64."""
        ...


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Uniform on [low, high); the constant `low` if both are equal.

    Raises:
        ValueError: low > high.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}: exchange them")

    def sample(self, shape: tuple[int, ...], generator: Generator) -> Tensor:
        unit = torch.rand(shape, dtype=torch.float64, generator=generator)
        return self.low + (self.high - self.low) * unit


@dataclass(frozen=True, kw_only=True)
class LogNormal:
    """Log-normal: exp(N(log median, spread^2)).

    Args:
        median: > 0.
        spread: > 0, standard deviation of the logarithm.
    """

    median: Positive
    spread: Positive

    def sample(self, shape: tuple[int, ...], generator: Generator) -> Tensor:
        normal = torch.randn(shape, dtype=torch.float64, generator=generator)
        return (math.log(self.median) + self.spread * normal).exp()
