"""A Gaussian beneath a network: what makes exp(-E) normalisable, and calls back chains that ran
away."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

Width = Annotated[float, Ge(1e-6)]  # of a base measure; its precision must be a number


def precision_of(base_std: Width | None) -> float:
    """1 / base_std^2; 0: there is none."""
    return 0.0 if base_std is None else base_std**-2


def with_base(energy: Tensor, x: Tensor, precision: float) -> Tensor:
    """energy + precision * ||x||^2 / 2, shape (..., batch); x is (batch, *event)."""
    if not precision:
        return energy
    return energy.add(x.flatten(1).square().sum(1), alpha=0.5 * precision)
