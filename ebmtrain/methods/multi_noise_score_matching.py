"""Denoising score matching at many noise levels (Song & Ermon, NeurIPS 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.bounds import unsqueeze_like
from ebmtrain.score import score
from ebmtrain.types import Batch, Energy, LossOutput, Tensors


class _NoiseConditional(Protocol):
    """An energy E(x, sigma) that depends on the noise level; without sigma it is E(x,
    sigma_min)."""

    sigma_min: float
    sigma_max: float

    def __call__(self, x: Tensor, sigma: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class MultiNoiseScoreMatching:
    """L = mean sigma^2 / 2 || s(x + sigma * xi, sigma) + xi / sigma ||^2,  xi ~ N(0, I),
    s = -dE(x, sigma)/dx,  log sigma uniform between those of the model's sigma_min and sigma_max.

    The weight sigma^2 gives all noise levels the same magnitude. At each sigma the minimiser is the
    score of the data convolved with N(0, sigma^2 I). At a large sigma the modes overlap, and the
    same network that learns their weights there is evaluated at sigma_min. The loss does not couple
    the two energies, so the weights of well separated modes are more likely to be correct than with
    dsm, but not guaranteed. (The paper uses about ten fixed noise levels; here every point has its
    own.)
    """

    @staticmethod
    def conflicts(config: Mapping[str, Any]) -> list[str]:
        if "sigma_min" in config["model"]:
            return []
        return [
            "method=multi_dsm needs an energy of the noise level: model=noise_conditional_mlp, "
            "or method=dsm"
        ]

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return {}

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x, model = batch.x, cast(_NoiseConditional, energy)
        u = x.new_empty(len(x)).uniform_(generator=generator)
        sigma = model.sigma_min * (u * math.log(model.sigma_max / model.sigma_min)).exp()
        xi = torch.empty_like(x).normal_(generator=generator)
        wide = unsqueeze_like(sigma, x)
        s = score(lambda x: model(x, sigma), x + wide * xi)
        loss = (wide * s + xi).flatten(1).square().sum(1).mean() / 2
        metrics = {"score_norm": s.detach().flatten(1).square().sum(1).mean().sqrt()}
        return LossOutput(loss, metrics, state)
