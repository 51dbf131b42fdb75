"""The temperature that points really have, whatever the chain that drew them was told."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.score import gradients
from ebmtrain.types import Energy

_DIFFERENCE_STEP = 0.01  # of differences, in standard deviations of the points
_MAX_EXACT_TRACE_DIMENSIONS = (
    8  # dimensions up to which the trace is exact; beyond them as many random directions
)
_MIN_SIGNIFICANCE_SE = 4.0  # standard errors
_MIN_RELATIVE_DEVIATION = 0.05  # share of the temperature


class Temperature(NamedTuple):
    value: float
    error: float
    """Standard error, of independent points."""


def configurational_temperature(
    energy: Energy, x: Tensor, generator: Generator
) -> Temperature | None:
    """The configurational temperature (Rugh, Phys. Rev. Lett. 78, 1997; Butler et al., J. Chem.
    Phys. 109, 1998):

        T = E ||dE||^2 / E tr d2E,

    for points of exp(-E / T): the divergence of exp(-E / T) dE has the integral 0, and is
    (tr d2E - ||dE||^2 / T) exp(-E / T). No unit, no normaliser, any dimension; the weights of modes
    do not matter. Of langevin on E = a ||x||^2 / 2 it is T / (1 - eta a / 2).

    tr d2E is the sum of v' d2E v over the axes, beyond 8 dimensions the mean over 8 random v of
    signs (Hutchinson, 1990); each by differences of dE. So no second derivative is asked for: of a
    kink, as of leaky_relu, a difference sees on average what a derivative does not.

    Args:
        energy: in float64.
        x: (n, *event), float64, n >= 2, taken as independent.
        generator: on the CPU.

    Returns:
        None where the curvature is not clearly positive, or not finite: then there is no telling.
    """
    square = gradients(energy, x).flatten(1).square().sum(1)
    h = _DIFFERENCE_STEP * float((x - x.mean(0)).square().mean().sqrt())
    axes = probe_vectors(x, generator)
    curvature = torch.stack([_second_derivative(energy, x, v, h) for v in axes]).sum(0)
    if x[0].numel() > _MAX_EXACT_TRACE_DIMENSIONS:
        curvature /= len(axes)
    n, below = len(x), float(curvature.mean())
    if not below > _MIN_SIGNIFICANCE_SE * float(curvature.std()) / n**0.5:  # NaN included
        return None
    value = float(square.mean()) / below
    error = float((square - value * curvature).std()) / n**0.5 / below  # of a ratio of means
    return Temperature(value, error)


def _second_derivative(energy: Energy, x: Tensor, v: Tensor, h: float) -> Tensor:
    """v' d2E v, (n,): (4 D(h) - D(2h)) / 3 with D(h) = v' (dE(x + h v) - dE(x - h v)) / 2h, whose
    error is of the order h^4: 3e-4 of it for waves of 0.2 standard deviations."""

    def difference(h: float) -> Tensor:
        change = gradients(energy, x + h * v) - gradients(energy, x - h * v)
        return (v * change).flatten(1).sum(1) / (2 * h)

    return (4 * difference(h) - difference(2 * h)) / 3


def probe_vectors(x: Tensor, generator: Generator) -> list[Tensor]:
    """Unit vectors along all axes, (*event), or 8 of random signs for each point, (n, *event)."""
    d = x[0].numel()
    if d <= _MAX_EXACT_TRACE_DIMENSIONS:
        return list(torch.eye(d).to(x).view(d, *x.shape[1:]))
    signs = [
        torch.randint(2, x.shape, generator=generator) * 2 - 1
        for _ in range(_MAX_EXACT_TRACE_DIMENSIONS)
    ]
    return [v.to(x) for v in signs]


def temperature_warnings(fitted: Temperature | None, temperature: float) -> list[str]:
    """A warning where points are not of the temperature that everything is evaluated at."""
    if fitted is None:
        return [
            "the temperature of the samples cannot be told: the energy has no clear curvature "
            "where they are; raise quality.points or samples.burn_in"
        ]
    off = abs(fitted.value - temperature)
    if off <= max(_MIN_SIGNIFICANCE_SE * fitted.error, _MIN_RELATIVE_DEVIATION * temperature):
        return []
    return [
        f"the samples have temperature {fitted.value:.3g} +- {fitted.error:.1g}, the run is "
        f"evaluated at {temperature:g}: lower sampler.step_size, raise samples.burn_in, or choose "
        "sampler=mala"
    ]
