"""Masses of the known modes of a density."""

from __future__ import annotations

import torch
from torch import Tensor

from ebmtrain.types import Modes

_ROWS = 65_536  # points at once
_MIN_RELATIVE_MASS = 0.1  # of its true weight; below it a mode counts as missed


def mode_masses(x: Tensor, mass: Tensor, modes: Modes) -> Tensor:
    """Mass of the points nearest to the centre of each mode, (modes,), in the order of the modes.
    The points are (n, *event) in the data's units, their masses (n,).
    """
    centres = modes.centres.to(x).flatten(1)
    parts = x.flatten(1).split(_ROWS)
    nearest = torch.cat([torch.cdist(part, centres).argmin(1) for part in parts])
    return torch.zeros(len(centres), dtype=mass.dtype).index_add(0, nearest, mass)


def mass_kl(p: Tensor, q: Tensor) -> float:
    """KL(p || q) = sum_k p_k log(p_k / q_k) of masses, (modes,) each, in nats."""
    return float((torch.special.xlogy(p, p) - torch.special.xlogy(p, q.clamp(min=1e-300))).sum())


def mode_coverage(true: Tensor, weights: Tensor) -> float:
    """Fraction of the modes whose weight in the samples is at least a tenth of their true weight,
    in [0, 1]. Modes of zero true weight do not count. Both are (modes,), with sum 1.
    """
    present = true > 0
    return float((weights >= _MIN_RELATIVE_MASS * true)[present].double().mean())
