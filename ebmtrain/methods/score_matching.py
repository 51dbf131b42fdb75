"""Score matching (Hyvarinen, JMLR 6, 2005), with the exact trace."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor

from ebmtrain.score import score_and_divergence
from ebmtrain.types import Batch, Energy, LossOutput, Tensors


@dataclass(frozen=True, kw_only=True)
class ScoreMatching:
    """L = mean [ ||s(x)||^2 / 2 + tr(ds/dx) ],  s = -dE/dx.

    One backward pass per dimension: for a handful of them. The energy must be twice
    differentiable in x (no ReLU). Blind to the weights of modes that are far apart: read
    `mode_weights` before you take the result for a density.
    """

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
