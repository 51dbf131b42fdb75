"""Energies and their optional capabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Generator, Tensor

from ebmtrain.types.state import Tensors


@runtime_checkable
class Energy(Protocol):
    """E: (batch, *event) -> (batch,), with p(x) proportional to exp(-E(x)).

    Optional: `energy_and_gradient(x) -> (E(x), dE/dx)` in closed form, which `ebmtrain.score` uses
    in chains, where no parameter gradient is needed; `differentiable_gradient(x)`, dE/dx
    differentiable once in the parameters, or None where autograd has to compute it, for losses;
    `differentiable_gradient_and_curvatures(x, directions)`, the same with v' (d2E/dx2) v for each v
    of directions (n, batch, *event), shape (n, batch); `quadratic_loss(x, loss, derivatives)`,
    value and metrics of `score.quadratic_loss` with the gradient in the parameters in one pass, or
    None where autograd has to compute it; `flip_differences(x, sites)`, of binary states, E with
    one site changed minus E(x) for each of the sites, int64 indices into a flattened point,
    (batch, sites), which `ebmtrain.score` uses; the protocols below.

    If the constructor has an argument `training_points: Tensor | None`, it gets the standardized
    training points, (n, *event), for the initialisation, or None if weights are loaded afterwards.

    If it has an argument `states: int`, it gets the number of symbols of categorical points.

    If it has an argument `ragged: bool` and that is true, the energy takes sequences of different
    lengths, (batch, length, channels) with NaN at missing steps: see `masks`. It must not depend
    on the number of missing steps, and its gradient there must be 0.
    """

    def __call__(self, x: Tensor) -> Tensor: ...


class ChainKernels(Protocol):
    """What an energy may offer that makes many steps of a chain faster in one go than one by one.
    Without autograd."""

    def supports_chains(self, x: Tensor) -> bool:
        """Whether the others are to be used for these points."""
        ...

    def langevin(
        self, x: Tensor, noise: Tensor, sizes: Sequence[float], scales: Sequence[float]
    ) -> Tensor:
        """Where x <- x - sizes[t] * dE(x) + scales[t] * noise[t], t = 0, 1, ..., ends: points of
        the shape of x, (batch, *event); noise is (steps, batch, *event)."""
        ...

    def leapfrog(
        self, x: Tensor, momentum: Tensor, gradient: Tensor, eps: Tensor, temperature: float,
        steps: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Points, momenta, dE and E after leapfrog steps of sizes eps, (batch,), of the dynamics of
        E / temperature + ||p||^2 / 2, from points, momenta and dE of shape (batch, *event)."""
        ...


class Affine(NamedTuple):
    """offset + slope * y, elementwise."""

    offset: Tensor
    slope: Tensor | None = None
    """None: 0."""


class LossDerivatives(NamedTuple):
    """Derivatives of a quadratic loss with respect to what it depends on; None: not on this."""

    energy: Affine | None = None
    """By E(x), (batch,)."""
    gradient: Affine | None = None
    """By dE/dx, (batch, *event)."""
    curvature: Affine | None = None
    """By v' (d2E/dx2) v, (n, batch); with `gradient` and `directions`."""
    directions: Tensor | None = None
    """The v, (n, batch, *event)."""


QuadraticLoss = Callable[..., tuple[Tensor, Tensors]]
"""The loss, shape (), and metrics, from E(x), or from dE/dx, or from dE/dx and the curvatures."""


@runtime_checkable
class Normalised(Protocol):
    """An energy with a known normaliser, in closed form or by enumeration of a discrete space.
    Evaluations are then exact in any number of dimensions."""

    def log_z(self, temperature: float) -> Tensor | None:
        """log of the integral, or of the sum, of exp(-E / T) over all points of the space, shape
        (); None if it is not known at this T > 0. Computed in the dtype of the parameters.
        """
        ...


class NoiseRange(NamedTuple):
    """The noise levels of a `TimeConditional` energy: y = x + sqrt(variance * t) xi."""

    variance: Tensor
    """(): of the data, the mean over their coordinates."""
    t_min: float
    t_max: float


@runtime_checkable
class TimeConditional(Protocol):
    """An energy U(y, t) of points y with Gaussian noise of variance t, in units of the variance of
    the data."""

    @property
    def noise(self) -> NoiseRange: ...

    def gaussian_points(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Points of a Gaussian close to the density at t_max, (count, *event), and log q of them,
        (count,)."""
        ...

    def __call__(self, x: Tensor, log_t: Tensor | None = None) -> Tensor:
        """(batch, *event) and (batch,), or (1,) for all -> (batch,); without log t at t_min."""
        ...


@runtime_checkable
class Joint(Protocol):
    """An energy of points and classes, E(x) = -log sum_y exp(-E(x, y)), with
    p(y | x) = softmax_y(-E(x, y)) = exp(E(x) - E(x, y))."""

    classes: int | None
    """Number of classes; None: the model has no outputs for classes, and `joint` is not called."""

    def joint(self, x: Tensor) -> Tensor:
        """E(x, y) of every class y: (batch, *event) -> (batch, classes)."""
        ...


@runtime_checkable
class Bipartite(Protocol):
    """An energy of binary states v that sums out binary hidden units h, which are independent given
    v, as the v are given h: E(v) = -log sum_h exp(-E(v, h))."""

    def hidden(self, v: Tensor) -> Tensor:
        """p(h = 1 | v), (batch, *event) -> (batch, hidden)."""
        ...

    def visible(self, h: Tensor) -> Tensor:
        """p(v = 1 | h), (batch, hidden) -> (batch, *event)."""
        ...

    @property
    def filters(self) -> Tensor:
        """The weights between each hidden unit and the visible ones, (hidden, *event)."""
        ...


@runtime_checkable
class HasCouplings(Protocol):
    """An energy, or the true distribution of a data set, of sites that interact in pairs."""

    @property
    def couplings(self) -> Tensor:
        """J of E = -s'Js - h's of spins, (sites, sites), symmetric with zeros on its diagonal; of
        symbols (sites, states, sites, states), see `Potts`."""
        ...


@runtime_checkable
class Landscape(Protocol):
    """An analytic energy in its own units: it is sampled and drawn, not trained."""

    window: tuple[Sequence[float], Sequence[float]]
    """Lower and upper corner, (d,) each, of the box that holds its wells."""
    event_shape: tuple[int, ...]


@runtime_checkable
class ImageEnergy(Protocol):
    """An energy of images."""

    image: tuple[int, ...]
    """Shape of one image, (height, width) or (channels, height, width)."""
