"""Energies made from a trained energy: of a noisy observation, in the data's units, of one class,
on an affine subspace."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ebmtrain.score import energy_and_gradient
from ebmtrain.types import Bounds, Standardization, Support


class AffineSubspaceEnergy(nn.Module):
    """E(b + A z), (batch, m) -> (batch,): the energy on an affine subspace.

    If d - m of the d elements of a point are fixed, it is the unnormalised conditional density of
    the other elements.

    Args:
        energy: (batch, *event) -> (batch,).
        origin: b, (*event).
        directions: A, (d, m), over the d elements of an event; or the diagonal of A, (d,).
    """

    origin: Tensor
    directions: Tensor

    def __init__(self, energy: nn.Module, origin: Tensor, directions: Tensor):
        super().__init__()
        self.energy = energy
        self.register_buffer("origin", origin)
        self.register_buffer("directions", directions)

    def points(self, z: Tensor) -> Tensor:
        """b + A z, (batch, *event)."""
        a = self.directions
        steps = z * a if a.ndim == 1 else z @ a.T
        return self.origin + steps.view(-1, *self.origin.shape)

    def forward(self, z: Tensor) -> Tensor:
        return self.energy(self.points(z))

    def energy_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        energy, gradient = energy_and_gradient(self.energy, self.points(z))
        flat, a = gradient.flatten(1), self.directions
        return energy, flat * a if a.ndim == 1 else flat @ a


class PosteriorEnergy(nn.Module):
    """U(z) = E(b + A z) + T / 2 * sum_i k_i (z_i - c_i)^2, (batch, d) -> (batch,), which is
    E(u) + T ||x(u) - y||^2 / (2 sigma^2) at u = b + A z. exp(-U / T) is the posterior of a point x
    given the observation y = x + sigma xi, xi ~ N(0, I).

    With x(u) = shift + S M u, the noise has precision L = M' S^2 M / sigma^2 = Q diag(l) Q' in u.
    A = Q diag(1 + l)^(-1/2) is a preconditioner: the curvature in z is at most that of E in u plus
    T, so a step size for E is valid for U at any sigma. z ~ N(0, I) corresponds to the covariance
    that the posterior would have if exp(-E / T) were N(b, I).

    Args:
        energy: of standardized points u, (batch, *event) -> (batch,).
        units: x(u).
        y: observation, (*event), in the data's units.
        noise: sigma > 0, in the data's units.
        temperature: T > 0.
        origin: b, (*event), in standardized units.
    """

    precision: Tensor
    centre: Tensor

    def __init__(
        self,
        energy: nn.Module,
        units: Standardization,
        y: Tensor,
        noise: float,
        temperature: float,
        origin: Tensor,
    ):
        super().__init__()
        self.temperature = temperature
        u = (units.to_standard(y) - origin).flatten()
        stiff = (units.scale.flatten() / noise).square()
        if units.mixing is None:  # diagonal: a (d, d) matrix is large for images
            axes = torch.ones_like(u)
        else:
            stiff, axes = torch.linalg.eigh(units.mixing.T @ (stiff[:, None] * units.mixing))
            u = axes.T @ u
        shrink = (1 + stiff).rsqrt()
        self.subspace = AffineSubspaceEnergy(energy, origin, axes * shrink)
        self.register_buffer("precision", stiff * shrink.square())
        self.register_buffer("centre", u / shrink)

    def points(self, z: Tensor) -> Tensor:
        """b + A z, (batch, *event)."""
        return self.subspace.points(z)

    def forward(self, z: Tensor) -> Tensor:
        return self.subspace(z) + self._misfit(z)

    def _misfit(self, z: Tensor) -> Tensor:
        """T ||x - y||^2 / (2 sigma^2) up to a constant, (batch,)."""
        return self.temperature / 2 * (self.precision * (z - self.centre).square()).sum(1)

    def energy_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        energy, gradient = self.subspace.energy_and_gradient(z)
        misfit_gradient = self.temperature * self.precision * (z - self.centre)
        return energy + self._misfit(z), gradient + misfit_gradient


class _DataUnitsEnergy(nn.Module):
    """E_data(x) = E(u(x)) - T log |dt/dx|, with E the energy of standardized points u, (batch,
    *event) -> (batch,), and the map t of bounds on x; inf outside of the bounds. The second term is
    0 without bounds.

    p(x) = exp(-E_data(x) / T) / Z, with log Z that over u plus log |dt/du|.
    """

    shift: Tensor
    scale: Tensor
    mixing: Tensor | None
    low: Tensor | None
    high: Tensor | None

    def __init__(
        self,
        energy: nn.Module,
        standardization: Standardization,
        temperature: float,
        support: Support | None,
    ):
        super().__init__()
        self.energy, self.support = energy, support
        self.temperature = temperature
        tensors = standardization._asdict()
        bounds = tensors.pop("bounds")
        tensors |= {"low": None, "high": None} if bounds is None else bounds._asdict()
        for name, value in tensors.items():
            self.register_buffer(name, None if value is None else value.clone())

    def forward(self, x: Tensor | ArrayLike) -> Tensor:
        """E_data(x), (batch, *event) -> (batch,).

        Raises:
            ValueError: the points have another shape.
            DataError: a point is not in the support.
        """
        x = x if isinstance(x, Tensor) else torch.from_numpy(np.array(x, dtype=np.float64))
        if x.ndim != 1 + self.shift.ndim or x.shape[1:] != self.shift.shape:
            expected = ", ".join(["n", *map(str, self.shift.shape)])
            raise ValueError(
                f"the energy takes points of shape ({expected}), got {tuple(x.shape)}"
                + ("; one point is x[None]" if x.shape == self.shift.shape else "")
            )
        if self.support is not None:
            self.support.check(x, "points")
        # Shifted before the cast: float32 cannot resolve small values on a large offset.
        bounds = None if self.low is None or self.high is None else Bounds(self.low, self.high)
        units = Standardization(self.shift, self.scale, self.mixing, bounds)
        u = units.to_standard(x.to(self.shift))
        energy = self.energy(u.to(next(iter(self.energy.parameters()), u)))
        if bounds is None:
            return energy
        each = (-1, *[1] * (energy.ndim - 1))  # of the classes of a point too
        energy = energy - self.temperature * units.log_slope(x).view(each)
        return torch.where(bounds.contains(x.to(self.shift)).view(each), energy, torch.inf)


def to_data_units(
    energy: nn.Module,
    standardization: Standardization,
    temperature: float = 1.0,
    support: Support | None = None,
) -> nn.Module:
    """A detached copy of `energy`, in eval mode, that takes points in the data's units and, where
    these have bounds, holds the logarithm of the slope of their map. Points outside of the support
    are refused, if it is given."""
    wrapped = _DataUnitsEnergy(copy.deepcopy(energy), standardization, temperature, support).eval()
    return wrapped.requires_grad_(False)


class ClassEnergies(nn.Module):
    """E(x, y) for all classes of a `Joint` energy, (batch, *event) -> (batch, classes)."""

    def __init__(self, energy: nn.Module):
        super().__init__()
        self.energy = energy

    def forward(self, x: Tensor) -> Tensor:
        return self.energy.joint(x)  # type: ignore[operator]


class ClassConditionalEnergy(nn.Module):
    """E(x, y) for one class y of a `Joint` energy, (batch, *event) -> (batch,). p(x | y) is
    proportional to exp(-E(x, y) / T)."""

    def __init__(self, energy: nn.Module, label: int):
        super().__init__()
        self.energies = ClassEnergies(energy)
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        return self.energies(x)[:, self.label]
