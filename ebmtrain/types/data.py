"""Data sets, densities, units and supports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from ebmtrain.types.bounds import Bounds
from ebmtrain.types.capabilities import Space


class Batch(NamedTuple):
    """Points of one training step, with their classes."""

    x: Tensor
    """(batch, *event), in the units that the model is trained in."""
    y: Tensor | None = None
    """(batch,), int64: the class of each point; None if the data have no labels."""


class Labels(NamedTuple):
    """The classes of a dataset's points, counted from 0."""

    train: Tensor
    """(n,), int64."""
    holdout: Tensor
    """(m,), int64."""
    names: tuple[str, ...]
    """Names of the classes."""


class Modes(NamedTuple):
    """The known modes of a density."""

    centres: Tensor
    """(modes, *event), in the data's units."""
    weights: Tensor
    """(modes,), sum 1."""


class Density(Protocol):
    """A distribution with a sampler and a known density, in the data's units."""

    def sample(self, count: int, generator: Generator) -> Tensor:
        """`count` independent points, (count, *event), float64."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (batch, *event) -> (batch,); computed in x's dtype."""
        ...

    @property
    def entropy(self) -> float:
        """-E[log p(x)] in nats: the least NLL that any model can have."""
        ...

    @property
    def modes(self) -> Modes | None: ...


class Standardization(NamedTuple):
    """t(x) = shift + scale * (mixing u), with t the map of `Bounds`, or t(x) = x if there are none.
    Models and chains live in u, people in x.

    The data's units are kept in float64 on the CPU, and both ways end there: a float32 of a large
    offset has no room for the rest.
    """

    shift: Tensor
    """(*event), float64."""
    scale: Tensor
    """(*event), float64, positive; elementwise."""
    mixing: Tensor | None = None
    """(d, d) over the d elements of a point, float64, regular: what makes the coordinates of u
    uncorrelated. None: u stays as it is."""
    bounds: Bounds | None = None
    """Of x. None: x is in R^d."""

    def to_standard(self, x: Tensor) -> Tensor:
        u = (self.to_linear(x.to(self.shift)) - self.shift) / self.scale
        if self.mixing is None:
            return u
        return torch.linalg.solve(self.mixing, u.reshape(-1, len(self.mixing)).T).T.reshape(u.shape)

    def to_data(self, u: Tensor) -> Tensor:
        u = u.to(self.shift)
        if self.mixing is not None:
            u = (u.reshape(-1, len(self.mixing)) @ self.mixing.T).view(u.shape)
        return self.from_linear(u * self.scale + self.shift)

    def to_linear(self, x: Tensor) -> Tensor:
        """t(x), (..., *event), float64, which depends on u linearly."""
        return x if self.bounds is None else self.bounds.to_real(x)

    def from_linear(self, y: Tensor) -> Tensor:
        """The inverse of `to_linear`."""
        return y if self.bounds is None else self.bounds.from_real(y)

    def log_slope(self, x: Tensor) -> Tensor:
        """log |dt/dx| at points in the data's units, (n, *event) -> (n,), float64; 0 without
        bounds. log p(x) = log p(u) - log_volume + log_slope(x)."""
        x = x.to(self.shift)
        return x.new_zeros(len(x)) if self.bounds is None else self.bounds.log_slope(x)

    @property
    def log_volume(self) -> float:
        """log |dt/du|: add it to a log Z in u to have that of the energies in the data's units,
        E(u(x)) - T log_slope(x)."""
        stretched = self.scale.double().log().sum()
        if self.mixing is not None:
            stretched = stretched + torch.linalg.slogdet(self.mixing.double()).logabsdet
        return float(stretched)


class Dataset(Protocol):
    """Points to train on and points held out, both in the data's own units, on the CPU.

    May also be one of `HasSupport`, `HasNames`, `HasLabels`, `HasAnomalies`, `HasPixels`,
    `HasNotes`, `HasRowNumbers` and `HasSteps`, each of which is optional. Labels are then in the
    batches too.
    """

    train: Tensor
    """(n, *event), float64; of sequences of different lengths NaN where a step is not there."""
    holdout: Tensor
    """(m, *event), float64; never trained on."""
    standardization: Standardization
    truth: Density | None
    """The distribution that the points were drawn from, where it is known."""

    def to(self, *, dtype: torch.dtype, device: torch.device) -> Dataset:
        """Itself, whose batches are of this type and on this device."""
        ...

    def batch(self, step: int, size: int, seed: int) -> Batch:
        """The batch of one training step, standardized: a pure function of its arguments."""
        ...


class BaseDistribution(Protocol):
    """A distribution over flattened standardized points, (n, d), from which annealing starts."""

    @property
    def factor(self) -> Tensor:
        """(d, d), lower triangular: u = mean + factor z."""
        ...

    def whiten(self, u: Tensor) -> Tensor:
        """(n, d) -> (n, d): coordinates z in which the distribution is N(0, I)."""
        ...

    def unwhiten(self, z: Tensor) -> Tensor:
        """The inverse of `whiten`."""
        ...

    @property
    def log_volume(self) -> float:
        """log |du/dz|."""
        ...


class Support(Protocol):
    """The space that events live in. What depends on it is asked for here: a data set carries its
    support, the data spec of a run does, and parts declare the spaces that they take: see
    `takes_space`. Quadrature and annealing need more of `real` points: see `Continuous`."""

    space: ClassVar[Space]

    def standardization(self, points: Tensor, scaling: Any) -> Standardization:
        """Units in which models learn, from the training points, (n, *event), in the data's units,
        and the option `dataset.standardize`."""
        ...

    def chain_starts(self, like: Tensor, region: Region, generator: Generator) -> Tensor:
        """Points that chains start from where nothing is known of the modes, of the shape, type and
        device of `like`, (chains, *event), standardized.

        Args:
            region: holds the data.
        """
        ...

    def method_starts(self, like: Tensor, std: float, generator: Generator) -> Tensor:
        """Points that the chains of a method start from, of the shape and type of `like`,
        (chains, *event), standardized, with NaN where it has NaN.

        Args:
            std: of real points, their standard deviation.
        """
        ...

    def method_starts_nll(self, x: Tensor, std: float) -> Tensor:
        """-log density, or -log probability, of `method_starts`, (chains, *event) -> (chains,)."""
        ...

    def diffuse(self, x: Tensor, t: float, generator: Generator) -> Tensor:
        """x, (..., *event), standardized, after a symmetric noise of time t, which leads to the
        uniform distribution."""
        ...

    def check(self, points: Tensor, what: str) -> None:
        """
        Args:
            points: (n, *event), in the data's units.
            what: names the points in the message.

        Raises:
            DataError: a point is not in the space.
        """
        ...


@runtime_checkable
class HasSupport(Protocol):
    @property
    def support(self) -> Support:
        """Default: R^d."""
        ...


@runtime_checkable
class HasNames(Protocol):
    names: tuple[str, ...] | None
    """Of the columns of a table."""


@runtime_checkable
class HasRowNumbers(Protocol):
    row_numbers: Tensor | None
    """(n + m,), int64: the row of each training point, then of each held-out point, in the file
    that they were read from, counted from 0."""


@runtime_checkable
class HasSteps(Protocol):
    steps: Tensor | None
    """(*event), float64: the widths of the uniform noise that was added to each element; None:
    none was."""
    origins: Tensor | None
    """(*event), float64: a value of each element without noise, from which the others are multiples
    of its width apart; None: no noise was added."""


@runtime_checkable
class HasLabels(Protocol):
    labels: Labels | None


@runtime_checkable
class HasAnomalies(Protocol):
    anomalies: Tensor | None
    """(k, *event), in the data's units: points of a class that is neither in `train` nor in
    `holdout`."""


@runtime_checkable
class HasPixels(Protocol):
    pixels: tuple[float, float] | None
    """Points are images; the least and the largest value of a pixel."""


@runtime_checkable
class HasNotes(Protocol):
    notes: tuple[str, ...]
    """What the reader found in the data that the user should know before training; one line each,
    with the remedy."""


def notes_of(dataset: object) -> tuple[str, ...]:
    """Notes on the data, shown as warnings before training; empty: there are none."""
    return dataset.notes if isinstance(dataset, HasNotes) else ()


def names_of(dataset: object) -> tuple[str, ...] | None:
    """Names of a table's columns; None: they have none."""
    return dataset.names if isinstance(dataset, HasNames) else None


def steps_of(dataset: object) -> Tensor | None:
    """Widths of the noise that was added to discrete elements; None: none was."""
    return dataset.steps if isinstance(dataset, HasSteps) else None


def origins_of(dataset: object) -> Tensor | None:
    """See `HasSteps`; None: no noise was added."""
    return dataset.origins if isinstance(dataset, HasSteps) else None


def labels_of(dataset: object) -> Labels | None:
    """Classes of a data set's points; None: they have none."""
    return dataset.labels if isinstance(dataset, HasLabels) else None


def check_mixture(centres: Sequence[Sequence[float]], weights: Sequence[float] | None) -> None:
    """
    Raises:
        ValueError: centres of unequal length, or weights that do not fit them.
    """
    widths = {len(centre) for centre in centres}
    if len(widths) != 1 or 0 in widths:
        raise ValueError(
            f"centres must be one or more lists of equal length, got {centres}: "
            "write one [x, y] for each mode"
        )
    if weights is None:
        return
    if len(weights) != len(centres):
        raise ValueError(
            f"got weights of {len(weights)} modes, centres of {len(centres)}: give both, or null"
        )
    if not (all(w >= 0 for w in weights) and 0 < sum(weights) < math.inf):
        raise ValueError(f"weights must be >= 0 with a positive sum, got {list(weights)}")


class Region(NamedTuple):
    """An axis-aligned box that holds the data (or an analytic energy's wells)."""

    low: Tensor
    """(d,)"""
    high: Tensor
    """(d,)"""

    def grown(self, factor: float) -> Region:
        """`factor` times as wide about the same centre."""
        centre, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return Region(centre - factor * half, centre + factor * half)
