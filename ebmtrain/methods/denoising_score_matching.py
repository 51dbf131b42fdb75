"""Denoising score matching (Vincent, Neural Computation 23(7), 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ebmtrain.masks import squared_norm
from ebmtrain.score import quadratic_loss
from ebmtrain.types import Affine, Batch, Energy, LossDerivatives, LossOutput, Positive, Tensors


@dataclass(frozen=True, kw_only=True)
class DenoisingScoreMatching:
    """L = sigma^2 / 2 * mean || s(x + sigma * xi) + xi / sigma ||^2,  xi ~ N(0, I), s = -dE/dx.

    The factor sigma^2, absent from the paper, makes losses at different sigma comparable. The
    minimiser is the score of the data convolved with N(0, sigma^2 I), not of the data. Like all
    score matching it is insensitive to the weights of well separated modes.

    Args:
        sigma: standard deviation of the noise, in (standardized) units of x.
    """

    ragged: ClassVar[bool] = True

    sigma: Positive = 0.1

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return {}

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        xi = torch.empty_like(batch.x).normal_(generator=generator)

        def loss(gradient: Tensor) -> tuple[Tensor, Tensors]:
            value = squared_norm(xi - self.sigma * gradient, batch.x).mean() / 2
            norm = gradient.detach().flatten(1).square().sum(1).mean().sqrt()
            return value, {"score_norm": norm}

        n = len(xi)
        slope = torch.full_like(xi, self.sigma**2 / n)
        offset = xi * (-self.sigma / n)
        derivatives = LossDerivatives(gradient=Affine(offset, slope))
        value, metrics = quadratic_loss(energy, batch.x + self.sigma * xi, loss, derivatives)
        return LossOutput(value, metrics, state)
