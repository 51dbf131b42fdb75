"""The normaliser that an energy itself knows."""

from __future__ import annotations

import torch
from torch import nn

from ebmtrain.types import Normalised


@torch.no_grad()
def known_log_z(energy: nn.Module, temperature: float) -> float | None:
    """log Z of exp(-E / T) over the points that the energy takes; None where it offers none, or
    none at this T. As precise as the type of its parameters.

    Raises:
        ValueError: it is not a number.
    """
    if not isinstance(energy, Normalised) or not callable(energy.log_z):
        return None
    found = energy.log_z(temperature)
    if found is None:
        return None
    value = float(found)
    if value != value:
        raise ValueError(
            f"log_z of {type(energy).__name__} is {value} at temperature {temperature}"
        )
    return value
