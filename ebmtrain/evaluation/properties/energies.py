"""Laws of an energy: its gradient is one, and each point is for itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ebmtrain.evaluation.properties.result import Finding
from ebmtrain.score import energy_and_gradient, frozen

_STEP = 1e-4  # of central differences, in standardized units
_SLOPE = 1e-4  # relative error of a slope that passes: differences are good to about 1e-7
_SAME = 1e-6  # relative difference of energies that passes in float64


def laws_of_energies(energy: nn.Module, x: Tensor) -> Iterator[Finding]:
    """Args:
    energy: any; a copy in float64 is tried.
    x: some standardized points, (n, *event), n >= 4.
    """
    exact, x = copy.deepcopy(energy).cpu().double(), x.cpu().double()
    yield _score_is_the_gradient(exact, x)
    yield _closed_form_is_the_energy(exact, x)
    yield _points_are_for_themselves(exact, x)


def _score_is_the_gradient(energy: nn.Module, x: Tensor) -> Finding:
    """v' dE(x) = (E(x + h v) - E(x - h v)) / 2 h for random directions v."""
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    with frozen(energy), torch.no_grad():
        slope = (energy(x + _STEP * v) - energy(x - _STEP * v)) / (2 * _STEP)
    with frozen(energy):
        gradient = energy_and_gradient(energy, x)[1]
    along = (v * gradient).flatten(1).sum(1)
    error = float((along - slope).abs().max() / slope.abs().max().clamp(min=1e-12))
    return Finding("score is the gradient", error < _SLOPE, f"relative error {error:.1e}",
                   f"< {_SLOPE:g}")  # fmt: skip


def _closed_form_is_the_energy(energy: nn.Module, x: Tensor) -> Finding:
    """What chains see is what is trained and evaluated."""
    with frozen(energy):
        seen = energy_and_gradient(energy, x)[0]
        error = float((seen - energy(x).detach()).abs().max())
    return Finding("chains see the energy itself", error < _SAME, f"difference {error:.1e}",
                   f"< {_SAME:g}")  # fmt: skip


def _points_are_for_themselves(energy: nn.Module, x: Tensor) -> Finding:
    """E(cat[x, y])[:n] = E(x), in the mode of training too: no BatchNorm, no dropout."""
    half = len(x) // 2
    worst = 0.0
    for mode in (True, False):
        tried = copy.deepcopy(energy).train(mode)
        with torch.no_grad():
            together, alone = tried(x)[:half], tried(x[:half])
        size = together.abs().max().clamp(min=1.0)
        worst = max(worst, float((together - alone).abs().max() / size))
    return Finding("energies do not leak across the batch", worst < _SAME,
                   f"difference {worst:.1e}", f"< {_SAME:g}")  # fmt: skip
