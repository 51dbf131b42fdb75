"""Properties of an energy: its score is its gradient, and points of a batch are independent."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ebmtrain.evaluation.properties.result import PropertyResult, below, seeded_generator
from ebmtrain.score import energy_and_gradient, flip_differences, freeze
from ebmtrain.types import Space

_DIFFERENCE_STEP = 1e-4  # in standardized units
_MAX_SLOPE_ERROR = 1e-4  # relative; the central differences are accurate to about 1e-7
_MAX_ENERGY_ERROR = 1e-6  # in float64


def check_energy(energy: nn.Module, x: Tensor, space: Space = "real") -> Iterator[PropertyResult]:
    """Checks a float64 copy of an energy at standardized points, (n, *event), n >= 4."""
    exact, x = copy.deepcopy(energy).cpu().double(), x.cpu().double()
    yield _check_score(exact, x)
    yield _check_closed_form(exact, x)
    yield _check_batch_independence(exact, x)
    if space == "binary":
        yield _check_flips(exact, x)


def _check_score(energy: nn.Module, x: Tensor) -> PropertyResult:
    """v' dE(x) = (E(x + h v) - E(x - h v)) / 2 h for random directions v."""
    h, v = _DIFFERENCE_STEP, torch.randn(x.shape, generator=seeded_generator(), dtype=x.dtype)
    with freeze(energy):
        gradient = energy_and_gradient(energy, x)[1]
        with torch.no_grad():
            slope = (energy(x + h * v) - energy(x - h * v)) / (2 * h)
    along = (v * gradient).flatten(1).sum(1)
    error = float((along - slope).abs().max() / slope.abs().max().clamp(min=1e-12))
    return below("score is the gradient", "relative error", error, _MAX_SLOPE_ERROR)


def _check_closed_form(energy: nn.Module, x: Tensor) -> PropertyResult:
    """The energy that chains compute equals the energy that is trained and evaluated."""
    with freeze(energy):
        chain_energy = energy_and_gradient(energy, x)[0]
        error = float((chain_energy - energy(x).detach()).abs().max())
    return below("chains see the energy itself", "difference", error, _MAX_ENERGY_ERROR)


def _check_flips(energy: nn.Module, x: Tensor) -> PropertyResult:
    """`flip_differences` are differences of energies."""
    sites = torch.arange(x[0].numel())
    with torch.no_grad():
        found, true = (flip_differences(e, x, sites) for e in (energy, energy.forward))
    error = float((found - true).abs().max())
    return below("flips change the energy as they say", "difference", error, _MAX_ENERGY_ERROR)


def _check_batch_independence(energy: nn.Module, x: Tensor) -> PropertyResult:
    """E(cat[x, y])[:n] = E(x), in training mode too: BatchNorm and dropout fail."""
    half = len(x) // 2
    error = 0.0
    for mode in (True, False):
        copied = copy.deepcopy(energy).train(mode)
        with torch.no_grad():
            joint, separate = copied(x)[:half], copied(x[:half])
        size = joint.abs().max().clamp(min=1.0)
        error = max(error, float((joint - separate).abs().max() / size))
    return below("energies do not leak across the batch", "difference", error, _MAX_ENERGY_ERROR)
