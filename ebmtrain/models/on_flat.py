"""An energy on a flat through its space."""

from __future__ import annotations

from torch import Tensor, nn

from ebmtrain.score import energy_and_gradient


class OnFlat(nn.Module):
    """E(z) = E(b + A z), (batch, m) -> (batch,): what is left where d - m of the d numbers of a
    point are given, the conditional density of the others but for its normaliser.

    Args:
        energy: (batch, *event) -> (batch,).
        origin: b, (*event).
        directions: A, (d, m), over the d elements of an event.
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
        return self.origin + (z @ self.directions.T).view(-1, *self.origin.shape)

    def forward(self, z: Tensor) -> Tensor:
        return self.energy(self.points(z))

    def energy_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        energy, gradient = energy_and_gradient(self.energy, self.points(z))
        return energy, gradient.flatten(1) @ self.directions
