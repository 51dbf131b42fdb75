"""Classes of a `Joint` energy: one of them, or all side by side."""

from __future__ import annotations

from torch import Tensor, nn


class OfClass(nn.Module):
    """E(x, y) of one class y of a `Joint` energy, (batch, *event) -> (batch,): p(x | y) is
    proportional to exp(-E(x, y) / T)."""

    def __init__(self, energy: nn.Module, label: int):
        super().__init__()
        self.energy = energy
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        return self.energy.joint(x)[:, self.label]  # type: ignore[operator]


class JointOf(nn.Module):
    """E(x, y) of all classes, (batch, *event) -> (batch, classes), as a module to be called."""

    def __init__(self, energy: nn.Module):
        super().__init__()
        self.energy = energy

    def forward(self, x: Tensor) -> Tensor:
        return self.energy.joint(x)  # type: ignore[operator]
