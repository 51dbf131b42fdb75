"""Denoising score matching at many noises (Song & Ermon, NeurIPS 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.bounds import unsqueeze_like
from ebmtrain.score import score
from ebmtrain.types import Batch, Energy, LossOutput, Tensors


class NoiseConditional(Protocol):
    """An energy that is told the noise; without sigma it is that of sigma_min."""

    sigma_min: float
    sigma_max: float

    def __call__(self, x: Tensor, sigma: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class MultiNoiseScoreMatching:
    """L = mean sigma^2 / 2 || s(x + sigma * xi, sigma) + xi / sigma ||^2,  xi ~ N(0, I),
    s = -dE(x, sigma)/dx,  log sigma uniform between those of the model's sigma_min and sigma_max.

    The weight sigma^2 makes all noises count alike. At each sigma the minimiser is the score of the
    data convolved with N(0, sigma^2 I). At large noise the modes touch, and the network that learns
    their weights there is the one that is asked at sigma_min; but nothing in the loss binds the two
    energies, so that weights of modes far apart are likelier to be right than under dsm, and not
    certain. (The paper takes some ten fixed noises; every point has its own here.)
    """

    @staticmethod
    def conflicts(config: Mapping[str, Any]) -> list[str]:
        if "sigma_min" in config["model"]:
            return []
        return [
            "method=multi_dsm needs an energy that is told the noise: model=noise_conditional_mlp, "
            "or method=dsm"
        ]

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return {}

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x, model = batch.x, _conditional(energy)
        u = x.new_empty(len(x)).uniform_(generator=generator)
        sigma = model.sigma_min * (u * math.log(model.sigma_max / model.sigma_min)).exp()
        xi = torch.empty_like(x).normal_(generator=generator)
        wide = unsqueeze_like(sigma, x)
        s = score(lambda x: model(x, sigma), x + wide * xi)
        loss = (wide * s + xi).flatten(1).square().sum(1).mean() / 2
        metrics = {"score_norm": s.detach().flatten(1).square().sum(1).mean().sqrt()}
        return LossOutput(loss, metrics, state)


def _conditional(energy: Any) -> NoiseConditional:
    return energy
