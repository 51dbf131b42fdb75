"""Dual score matching (Guth, Kadkhodaie & Simoncelli, 2025, arXiv 2506.05310)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.bounds import unsqueeze_like
from ebmtrain.score import energies, freeze, gradients, gradients_in_point_and_time
from ebmtrain.types import (
    Batch,
    Energy,
    LossOutput,
    NonNegative,
    SmallCount,
    Tensors,
    TimeConditional,
)

_GOLDEN = (5**0.5 - 1) / 2  # of a lattice in two dimensions
_N_LOG_Z_POINTS = 20_000
_SCHEDULE_POWER = 7.0  # rho of Karras et al. (2022): the steps are shorter where the noise is less


@dataclass(frozen=True, kw_only=True)
class DualScoreMatching:
    """L = mean || sigma dU/dy - xi ||^2 / d + w ( (1 - ||xi||^2 / d) / 2 - (1 / d) dU/dlog t )^2,
    y = x + sigma xi,  sigma^2 = variance * t,  xi ~ N(0, I),  log t uniform on the model's range,
    w = time_weight * d.

    Both terms regress a derivative of log N(y; x, sigma^2 I) on y, so the minimiser is a common
    energy of all noise levels, U(y, t) = -log p_t(y) + constant, with p_t the data convolved with
    N(0, sigma^2 I): the first term is denoising score matching at each t; the second is the
    derivative in t, of which the expectation over y vanishes only for a normaliser that does not
    depend on t. The normaliser at t_max, where p_t is nearly Gaussian, is therefore that at t_min
    too: the density is normalised without chains, and the weights of separated modes are learnt.

    The variance of the second target is 1 / (2 d): the factor d, absent from the paper, gives both
    terms the same magnitude in every dimension. log t and ||xi||^2, the noise of the second target,
    are a lattice over the batch with a random shift: each xi is N(0, I), and the error of the
    normaliser by a finite batch nearly vanishes.

    Args:
        time_weight: factor of the second term; 1 / d: as published. 0: the normaliser is not
            learnt. At 3 the error of log Z of five Gaussians is two thirds of that at 1.
        sampling_steps: of Heun's method from t_max to t_min; see `draw`.
    """

    time_weight: NonNegative = 3.0
    sampling_steps: SmallCount = 40

    @staticmethod
    def conflicts(config: Mapping[str, Any]) -> list[str]:
        if "t_min" in config["model"]:
            return []
        return ["method=dual needs an energy of the noise level: model=film_mlp, or method=pcd"]

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        return {}

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x, model = batch.x, cast(TimeConditional, energy)
        noise, n, d = model.noise, len(x), x[0].numel()
        shifts = x.new_empty(2, 1).uniform_(generator=generator)
        index = torch.arange(n, dtype=x.dtype, device=x.device)
        u, q = torch.stack([index / n, index * _GOLDEN]).add(shifts).remainder(1)
        log_t = math.log(noise.t_min) + u * math.log(noise.t_max / noise.t_min)
        xi = torch.empty_like(x).normal_(generator=generator)
        squares = xi.flatten(1).square().sum(1)
        xi = unsqueeze_like((_chi_square_quantile(q, d) / squares).sqrt(), x) * xi
        sigma = unsqueeze_like((noise.variance * log_t.exp()).sqrt(), x)
        by_point, by_time = gradients_in_point_and_time(model, x + sigma * xi, log_t)
        in_point = (sigma * by_point - xi).flatten(1).square().sum(1).mean() / d
        target = (1 - xi.flatten(1).square().sum(1) / d) / 2
        in_time = d * (target - by_time / d).square().mean()
        metrics = {"point_loss": in_point.detach(), "time_loss": in_time.detach()}
        return LossOutput(in_point + self.time_weight * in_time, metrics, state)

    def log_z_learnt(self, energy: Any, state: Any) -> Tensor:
        """log mean exp(-U(y, t_max)) / q(y), shape (): log Z of exp(-U(y, t_max)) by importance
        sampling, with the same points y of the model's Gaussian q at each call."""
        model = cast(TimeConditional, energy)
        device = model.noise.variance.device
        y, log_q = model.gaussian_points(_N_LOG_Z_POINTS, Generator(device).manual_seed(0))
        log_t = y.new_full((1,), math.log(model.noise.t_max))
        u = energies(lambda x: model(x, log_t), y)
        return torch.logsumexp((-u - log_q).double(), 0) - math.log(len(u))

    def draw(self, energy: Any, count: int, generator: Generator) -> Tensor:
        """`count` independent points of the model at t_min, (count, *event).

        By Heun's method for dy/dsigma = sigma dU/dy (Song et al., ICLR 2021; Karras et al., NeurIPS
        2022), from points of the model's Gaussian at t_max. Two gradients per step.
        """
        model = cast(TimeConditional, energy)
        y, _ = model.gaussian_points(count, generator)
        scale = float(model.noise.variance) ** 0.5
        first, last = (scale * math.sqrt(t) for t in (model.noise.t_max, model.noise.t_min))
        power = 1 / _SCHEDULE_POWER
        roots = torch.linspace(first**power, last**power, self.sampling_steps + 1)
        sigmas = roots.double().pow(_SCHEDULE_POWER).tolist()

        def slope(y: Tensor, sigma: float) -> Tensor:
            log_t = y.new_full((1,), 2 * math.log(sigma / scale))
            return sigma * gradients(lambda x: model(x, log_t), y)

        with freeze(energy):
            for sigma, following in pairwise(sigmas):
                h, k = following - sigma, slope(y, sigma)
                y = y + h / 2 * (k + slope(y + h * k, following))
        return y


def _chi_square_quantile(q: Tensor, d: int) -> Tensor:
    """The q-quantile of the square norm of N(0, I) in d dimensions, (n,), by Newton's method for
    its logarithm from the approximations of Wilson & Hilferty and of the lower tail."""
    eps = torch.finfo(q.dtype).eps
    q, c = q.clamp(eps, 1 - eps), 2 / (9 * d)
    lower_tail = 2 * ((q.log() + math.lgamma(d / 2 + 1)) * (2 / d)).exp()
    x = torch.maximum(d * (1 - c + torch.special.ndtri(q) * c**0.5) ** 3, lower_tail)
    shape = torch.full_like(x, d / 2)
    for _ in range(5):
        log_slope = d / 2 * (x / 2).log() - x / 2 - math.lgamma(d / 2)
        error = q - torch.special.gammainc(shape, x / 2)
        x = x * (error / log_slope.exp()).clamp(-1, 1).exp()
    return x
