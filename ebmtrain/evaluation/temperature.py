"""The temperature of a sample with respect to an energy, estimated from the points alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.score import gradients
from ebmtrain.types import Energy

_DIFFERENCE_STEP = 0.01  # in standard deviations of the points
_MAX_EXACT_TRACE_DIMENSIONS = 8  # beyond it the trace is estimated from as many random directions
_MIN_SIGNIFICANCE_SE = 4.0
_MIN_RELATIVE_DEVIATION = 0.05


class Temperature(NamedTuple):
    """An estimated temperature and its error."""

    value: float
    error: float
    """Standard error, for independent points."""


def configurational_temperature(
    energy: Energy, x: Tensor, generator: Generator
) -> Temperature | None:
    """The configurational temperature (Rugh, Phys. Rev. Lett. 78, 1997; Butler et al., J. Chem.
    Phys. 109, 1998):

        T = E ||dE||^2 / E tr d2E,

    for points from exp(-E / T), since the divergence of exp(-E / T) dE integrates to 0 and equals
    (tr d2E - ||dE||^2 / T) exp(-E / T). The estimate has no unit and needs no normaliser, holds in
    any dimension and does not depend on the weights of modes. For Langevin chains of step size eta
    on E = a ||x||^2 / 2 it is T / (1 - eta a / 2).

    tr d2E is the sum of v' d2E v over the axes; beyond 8 dimensions it is estimated by the mean
    over 8 random v with entries of +-1 (Hutchinson, 1990). Each term is a finite difference of dE,
    and no second derivative is needed: for an energy with kinks, as with leaky_relu, the difference
    captures on average what the derivative misses.

    Args:
        energy: in float64.
        x: (n, *event), float64, n >= 2, taken as independent.
        generator: on the CPU.

    Returns:
        None if the mean curvature is not finite or not clearly positive: T is then undetermined.
    """
    square = gradients(energy, x).flatten(1).square().sum(1)
    h = _DIFFERENCE_STEP * float((x - x.mean(0)).square().mean().sqrt())
    axes = _probe_vectors(x, generator)
    # (4 D(h) - D(2h)) / 3 with D(h) = v' (dE(x + h v) - dE(x - h v)) / 2h: the error is of order
    # h^4, a relative error of 3e-4 for waves of length 0.2 standard deviations.

    def second_derivative(v: Tensor, h: float) -> Tensor:
        change = gradients(energy, x + h * v) - gradients(energy, x - h * v)
        return (v * change).flatten(1).sum(1) / (2 * h)

    terms = [(4 * second_derivative(v, h) - second_derivative(v, 2 * h)) / 3 for v in axes]
    curvature = torch.stack(terms).sum(0)
    if x[0].numel() > _MAX_EXACT_TRACE_DIMENSIONS:
        curvature /= len(axes)
    n, mean = len(x), float(curvature.mean())
    if not mean > _MIN_SIGNIFICANCE_SE * float(curvature.std()) / n**0.5:  # NaN included
        return None
    value = float(square.mean()) / mean
    error = float((square - value * curvature).std()) / n**0.5 / mean  # of a ratio of means
    return Temperature(value, error)


def _probe_vectors(x: Tensor, generator: Generator) -> list[Tensor]:
    """Unit vectors along all axes, (*event), in up to 8 dimensions; otherwise 8 vectors of random
    signs for each point, (n, *event).
    """
    d, n = x[0].numel(), _MAX_EXACT_TRACE_DIMENSIONS
    if d <= n:
        return list(torch.eye(d).to(x).view(d, *x.shape[1:]))
    return [(torch.randint(2, x.shape, generator=generator) * 2 - 1).to(x) for _ in range(n)]


def temperature_warnings(fitted: Temperature | None, temperature: float) -> list[str]:
    """A warning if the temperature of the sample differs from that of the evaluation by more than 4
    standard errors and 5 %, or cannot be estimated.
    """
    if fitted is None:
        return [
            "the temperature of the samples cannot be estimated: the mean curvature of the energy "
            "at the samples is not clearly positive; raise quality.points or samples.burn_in"
        ]
    off = abs(fitted.value - temperature)
    if off <= max(_MIN_SIGNIFICANCE_SE * fitted.error, _MIN_RELATIVE_DEVIATION * temperature):
        return []
    return [
        f"the samples have temperature {fitted.value:.3g} +- {fitted.error:.1g}, the run is "
        f"evaluated at {temperature:g}: lower sampler.step_size, raise samples.burn_in, or choose "
        "sampler=mala"
    ]
