"""An energy of points in the data's own units."""

from __future__ import annotations

from torch import Tensor, nn

from ebmtrain.types import Standardization


class InDataUnits(nn.Module):
    """E_data(x) = E((x - shift) / scale): the energy that was trained on standardized points.

    As a density over x it has log Z larger by sum log scale than over standardized points.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, energy: nn.Module, standardization: Standardization):
        super().__init__()
        self.energy = energy
        self.register_buffer("shift", standardization.shift.clone())
        self.register_buffer("scale", standardization.scale.clone())

    def forward(self, x: Tensor) -> Tensor:
        # Shifted before it is cast: a float32 of a large offset has no room for the rest.
        u = Standardization(self.shift, self.scale).to_standard(x.to(self.shift))
        return self.energy(u.to(next(iter(self.energy.parameters()), u)))


def in_data_units(energy: nn.Module, standardization: Standardization) -> nn.Module:
    """A detached copy of `energy`, in eval mode, that takes points in the data's units."""
    import copy

    wrapped = InDataUnits(copy.deepcopy(energy), standardization).eval()
    return wrapped.requires_grad_(False)
