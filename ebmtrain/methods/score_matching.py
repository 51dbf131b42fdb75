"""Score matching with the exact trace (Hyvarinen, JMLR 6, 2005)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from ebmtrain.score import score_and_divergence
from ebmtrain.types import Batch, Energy, LossOutput, Tensors


def require_second_derivative(config: Mapping[str, Any]) -> list[str]:
    """Conflict of a loss with second derivatives and a piecewise linear activation."""
    if config["model"].get("activation") != "leaky_relu":
        return []
    return [
        "model.activation=leaky_relu has no second derivative, which this method needs: "
        "model.activation=silu"
    ]


@dataclass(frozen=True, kw_only=True)
class ScoreMatching:
    """L = mean [ ||s(x)||^2 / 2 + tr(ds/dx) ],  s = -dE/dx.

    One backward pass per dimension, so only for a few dimensions. The energy must be twice
    differentiable in x (no ReLU). Insensitive to the weights of well separated modes: check the
    metrics of the mode weights before using the result as a density.
    """

    conflicts = staticmethod(require_second_derivative)

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return {}

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        s, divergence = score_and_divergence(energy, batch.x)
        squared_norm = s.flatten(1).square().sum(1)
        metrics = {
            "score_norm": squared_norm.detach().mean().sqrt(),
            "divergence": divergence.detach().mean(),
        }
        return LossOutput((squared_norm / 2 + divergence).mean(), metrics, state)
