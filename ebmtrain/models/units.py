"""An energy of points in the data's own units."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ebmtrain.types import Standardization


class InDataUnits(nn.Module):
    """E_data(x) = E(u(x)): the energy that was trained on standardized points u.

    As a density over x it has log Z larger by log |dx/du| than over standardized points.
    """

    shift: Tensor
    scale: Tensor
    mixing: Tensor | None

    def __init__(self, energy: nn.Module, standardization: Standardization):
        super().__init__()
        self.energy = energy
        for name, value in standardization._asdict().items():
            self.register_buffer(name, None if value is None else value.clone())

    def forward(self, x: Tensor | ArrayLike) -> Tensor:
        """(batch, *event) -> (batch,)

        Raises:
            ValueError: points of another shape.
        """
        x = x if isinstance(x, Tensor) else torch.from_numpy(np.array(x, dtype=np.float64))
        if x.ndim != 1 + self.shift.ndim or x.shape[1:] != self.shift.shape:
            expected = ", ".join(["n", *map(str, self.shift.shape)])
            raise ValueError(
                f"the energy takes points of shape ({expected}), got {tuple(x.shape)}"
                + ("; one point is x[None]" if x.shape == self.shift.shape else "")
            )
        # Shifted before it is cast: a float32 of a large offset has no room for the rest.
        u = Standardization(self.shift, self.scale, self.mixing).to_standard(x.to(self.shift))
        return self.energy(u.to(next(iter(self.energy.parameters()), u)))


def in_data_units(energy: nn.Module, standardization: Standardization) -> nn.Module:
    """A detached copy of `energy`, in eval mode, that takes points in the data's units."""
    import copy

    wrapped = InDataUnits(copy.deepcopy(energy), standardization).eval()
    return wrapped.requires_grad_(False)
