"""Spaces that events live in, and what follows from them: see `Support`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.standardization import PixelScaling, Standardize, fit_standardization
from ebmtrain.errors import DataError
from ebmtrain.masks import normal_like
from ebmtrain.types import Bounds, HasSupport, Region, Space, Standardization, Support


@dataclass(frozen=True)
class Continuous:
    """R^d, or the box low <= x_i <= high, in the data's units.

    Bounds set the scaling `range` of the standardization. Energies of bounded data are finite
    outside of the bounds too, so chain starts, the base of annealing and the box of integration are
    those of R^d in both cases.

    Args:
        bounds: (low, high), the least and the largest value of each element, as of a pixel; None:
            there are none.
    """

    space: ClassVar[Space] = "real"

    bounds: tuple[float, float] | None = None

    def standardization(
        self, points: Tensor, scaling: Standardize | PixelScaling
    ) -> Standardization:
        """
        Args:
            points: (n, *event), to train on.
            scaling: range: from -1 at the lower bound to 1 at the upper one, all elements alike;
                else as `fit_standardization`.

        Raises:
            ValueError: `range` without bounds.
        """
        if scaling != "range":
            return fit_standardization(points, scaling)
        if self.bounds is None:
            raise ValueError("standardize=range needs data with bounds: standardize=true")
        low, high = self.bounds
        like = points[0].double()
        middle, half = (low + high) / 2, (high - low) / 2
        return Standardization(torch.full_like(like, middle), torch.full_like(like, half))

    def chain_starts(self, like: Tensor, region: Region, generator: Generator) -> Tensor:
        """Uniform in the region of the data."""
        uniform = torch.empty_like(like).uniform_(generator=generator).flatten(1)
        low, high = region.low.to(uniform), region.high.to(uniform)
        return (low + uniform * (high - low)).view(like.shape)

    def method_starts(self, like: Tensor, std: float, generator: Generator) -> Tensor:
        """N(0, std^2 I)."""
        return std * normal_like(like, generator)

    def method_starts_nll(self, x: Tensor, std: float) -> Tensor:
        flat = x.flatten(1) / std
        log_scale = math.log(2 * math.pi * std**2) / 2
        return flat.square().sum(1) / 2 + log_scale * flat.shape[1]

    def diffuse(self, x: Tensor, t: float, generator: Generator) -> Tensor:
        """x + sqrt(t) N(0, I)."""
        return x + math.sqrt(t) * x.new_empty(x.shape).normal_(generator=generator)

    def check(self, points: Tensor, what: str) -> None:
        """Nothing: any number is in R^d."""

    def base(self, points: Tensor) -> _GaussianBase:
        """The base of annealed importance sampling: the Gaussian with mean and covariance of (n, d)
        points, float64. A thousandth of the mean variance is added to each variance, so that the
        covariance of few or degenerate points is positive definite.
        """
        d = points.shape[1]
        covariance = torch.cov(points.T).view(d, d)
        ridge = 1e-3 * covariance.diagonal().mean().clamp(min=1e-12)
        covariance = covariance + ridge * torch.eye(d).to(points)
        return _GaussianBase(mean=points.mean(0), factor=torch.linalg.cholesky(covariance))

    def integration_box(self, region: Region, margin: float) -> Region:
        """The first box over which quadrature sums exp(-E / T): the region of the data with
        `margin` of its width added on each side."""
        return region.grown(1 + 2 * margin)


@dataclass(frozen=True, eq=False, kw_only=True)
class Bounded(Continuous):
    """Points whose elements have bounds that a model cannot cross, as the units hold the map from
    there to R^d. It is R^d for all that lives in standardized units.

    Args:
        limits: of each element, in the data's units.
    """

    limits: Bounds

    def standardization(
        self, points: Tensor, scaling: Standardize | PixelScaling
    ) -> Standardization:
        """That of the points mapped to R^d, with the map."""
        units = super().standardization(self.limits.to_real(points.double()), scaling)
        return units._replace(bounds=self.limits)


@dataclass(frozen=True)
class Binary:
    """{0, 1}^d: each element of a point is a state, held as a floating-point number."""

    space: ClassVar[Space] = "binary"

    def standardization(
        self, points: Tensor, scaling: Standardize | PixelScaling
    ) -> Standardization:
        """The identity: states keep their values."""
        zero = torch.zeros_like(points[0].double())
        return Standardization(zero, zero + 1)

    def chain_starts(self, like: Tensor, region: Region, generator: Generator) -> Tensor:
        """Independent states 0 and 1 of equal probability."""
        return (torch.empty_like(like).uniform_(generator=generator) < 0.5).to(like)

    def method_starts(self, like: Tensor, std: float, generator: Generator) -> Tensor:
        """Those of `chain_starts`."""
        return (torch.empty_like(like).uniform_(generator=generator) < 0.5).to(like)

    def method_starts_nll(self, x: Tensor, std: float) -> Tensor:
        return x.new_full((len(x),), math.log(2) * x[0].numel())

    def diffuse(self, x: Tensor, t: float, generator: Generator) -> Tensor:
        """x with each element replaced by a uniform one with probability 1 - exp(-t)."""
        uniform = x.new_empty(x.shape).uniform_(generator=generator)
        return torch.where(uniform < (1 - math.exp(-t)) / 2, 1 - x, x)

    def check(self, points: Tensor, what: str) -> None:
        wrong = (points != 0) & (points != 1)
        _refuse(points, wrong, what, "states 0 and 1: give 0 or 1")


@dataclass(frozen=True)
class Categorical:
    """Each element of a point is the code 0, 1, ... of a symbol, held as a floating-point number.

    Args:
        alphabet: the symbols in the order of their codes.
    """

    space: ClassVar[Space] = "categorical"

    alphabet: str

    def standardization(
        self, points: Tensor, scaling: Standardize | PixelScaling
    ) -> Standardization:
        """The identity: codes keep their values."""
        return BINARY.standardization(points, scaling)

    def chain_starts(self, like: Tensor, region: Region, generator: Generator) -> Tensor:
        """Independent symbols of equal probability."""
        return self.method_starts(like, 1.0, generator)

    def method_starts(self, like: Tensor, std: float, generator: Generator) -> Tensor:
        """Those of `chain_starts`."""
        uniform = torch.empty_like(like).uniform_(generator=generator)
        return (uniform * len(self.alphabet)).floor()

    def method_starts_nll(self, x: Tensor, std: float) -> Tensor:
        return x.new_full((len(x),), math.log(len(self.alphabet)) * x[0].numel())

    def diffuse(self, x: Tensor, t: float, generator: Generator) -> Tensor:
        """x with each element replaced by a uniform one with probability 1 - exp(-t)."""
        uniform = x.new_empty(x.shape).uniform_(generator=generator)
        return torch.where(uniform < 1 - math.exp(-t), self.method_starts(x, 1.0, generator), x)

    def check(self, points: Tensor, what: str) -> None:
        wrong = (points < 0) | (points >= len(self.alphabet)) | (points != points.floor())
        last = len(self.alphabet) - 1
        _refuse(points, wrong, what, f"codes of {self.alphabet!r}: give 0 to {last}")


def _refuse(points: Tensor, wrong: Tensor, what: str, states: str) -> None:
    """
    Raises:
        DataError: an element is wrong; the message names the first one and what the elements are.
    """
    if wrong.any():
        row, *place = wrong.nonzero()[0].tolist()
        where = ", ".join(str(i + 1) for i in place)
        raise DataError(
            f"{what}: element {where} of row {row + 1} (counted from 1) is "
            f"{float(points[wrong][0]):g}, and the elements are {states}"
        )


BINARY = Binary()
REAL = Continuous()
"""R^d: the support of a data set that declares none."""


def support_of(dataset: object) -> Support:
    """The space that a data set's points live in."""
    return dataset.support if isinstance(dataset, HasSupport) else REAL


@dataclass(frozen=True, kw_only=True)
class _GaussianBase:
    """The Gaussian N(mean, L L') with lower triangular L, float64."""

    mean: Tensor
    """(d,)"""
    factor: Tensor
    """L, (d, d)"""

    def whiten(self, u: Tensor) -> Tensor:
        """z = L^-1 (u - mean), (n, d) -> (n, d): coordinates in which the base is N(0, I)."""
        return torch.linalg.solve_triangular(self.factor, (u - self.mean).T, upper=False).T

    def unwhiten(self, z: Tensor) -> Tensor:
        """u = mean + L z, (n, d) -> (n, d): the inverse of `whiten`."""
        return self.mean + z @ self.factor.T

    @property
    def log_volume(self) -> float:
        """log |du/dz| = log det L."""
        return float(self.factor.diagonal().log().sum())
