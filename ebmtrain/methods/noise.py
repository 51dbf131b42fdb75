"""Noise distributions of noise-contrastive estimation, fitted to the training points."""

from __future__ import annotations

import math
from typing import ClassVar, Protocol

import torch
from torch import Generator, Tensor

from ebmtrain.types import StateSchema, Tensors, replicated


class _NoiseDistribution(Protocol):
    """A density over flattened points. Its parameters are tensors of a method's state.

    Args (of all methods):
        x, y: (n, d), in (standardized) units of the data.
        width: > 0, factor on the fitted standard deviations, sides or bandwidth.
    """

    state_schema: ClassVar[StateSchema]
    """The keys of what `fit` returns."""

    def fit(self, x: Tensor, width: float, generator: Generator) -> Tensors: ...

    def sample(self, fitted: Tensors, count: int, generator: Generator) -> Tensor:
        """(count, d)"""
        ...

    def log_prob(self, fitted: Tensors, y: Tensor) -> Tensor:
        """(n,), normalised, in nats."""
        ...


class _GaussianNoise:
    """N(mean, width^2 C), with the full covariance C of the points."""

    state_schema: ClassVar[StateSchema] = replicated("noise_mean", "noise_root")

    def fit(self, x: Tensor, width: float, generator: Generator) -> Tensors:
        mean, root = _moments(x)
        return {"noise_mean": mean, "noise_root": width * root}

    def sample(self, fitted: Tensors, count: int, generator: Generator) -> Tensor:
        mean, root = fitted["noise_mean"], fitted["noise_root"]
        z = mean.new_empty(count, len(mean)).normal_(generator=generator)
        return mean + z @ root.T

    def log_prob(self, fitted: Tensors, y: Tensor) -> Tensor:
        root = fitted["noise_root"]
        z = _whiten(y - fitted["noise_mean"], root)
        return _log_unit_gaussian(z.square().sum(1), root)


class _UniformNoise:
    """Uniform on the bounding box of the points, scaled by `width` about its centre.

    Outside of the box there is no training signal; the energy there is the network's extrapolation.
    """

    state_schema: ClassVar[StateSchema] = replicated("noise_low", "noise_high")

    def fit(self, x: Tensor, width: float, generator: Generator) -> Tensors:
        low, high = x.amin(0), x.amax(0)
        # A constant coordinate gets a side of 1: a box without volume has no density.
        flat, half = high <= low, torch.full_like(low, 0.5)
        low, high = torch.where(flat, low - half, low), torch.where(flat, high + half, high)
        margin = (width - 1) / 2 * (high - low)  # 0 at width 1: all points are inside
        return {"noise_low": low - margin, "noise_high": high + margin}

    def sample(self, fitted: Tensors, count: int, generator: Generator) -> Tensor:
        low, high = fitted["noise_low"], fitted["noise_high"]
        z = low.new_empty(count, len(low)).uniform_(generator=generator)
        return (low + z * (high - low)).clamp(low, high)  # rounding may lead outside the box

    def log_prob(self, fitted: Tensors, y: Tensor) -> Tensor:
        low, high = fitted["noise_low"], fitted["noise_high"]
        inside = ((y >= low) & (y <= high)).all(1)
        return torch.where(inside, -(high - low).log().sum(), -torch.inf)


class _KernelNoise:
    """Kernel density estimate 1/K sum_k N(x_k, h^2 C) with K random training points x_k.

    h = width * (4 / (K (d + 2)))^(1 / (d + 4)), Silverman's rule (1986).
    """

    state_schema: ClassVar[StateSchema] = replicated("noise_centres", "noise_root")
    MAX_KERNELS = 256  # the cost per point is proportional to it

    def fit(self, x: Tensor, width: float, generator: Generator) -> Tensors:
        _, root = _moments(x)
        d, k = x.shape[1], min(self.MAX_KERNELS, len(x))
        h = width * (4 / (k * (d + 2))) ** (1 / (d + 4))
        chosen = torch.randperm(len(x), generator=generator, device=x.device)[:k]
        return {"noise_centres": x[chosen], "noise_root": h * root}

    def sample(self, fitted: Tensors, count: int, generator: Generator) -> Tensor:
        centres, root = fitted["noise_centres"], fitted["noise_root"]
        which = torch.randint(len(centres), (count,), generator=generator, device=centres.device)
        z = centres.new_empty(count, centres.shape[1]).normal_(generator=generator)
        return centres[which] + z @ root.T

    def log_prob(self, fitted: Tensors, y: Tensor) -> Tensor:
        centres, root = fitted["noise_centres"], fitted["noise_root"]
        middle = centres.mean(0)  # shifted: far from the origin the squares lose all digits
        a, b = _whiten(y - middle, root), _whiten(centres - middle, root)
        # ||a - b||^2 by one matrix product: differences, (n, K, d), would not fit into the cache.
        squared = a.square().sum(1, keepdim=True) - 2 * a @ b.T + b.square().sum(1)
        return _log_unit_gaussian(squared, root).logsumexp(1) - math.log(len(centres))


class _FrequencyNoise:
    """Independent states 0 and 1, p(y_i = 1) the frequency (k + 1) / (n + 2) of k ones in n points.

    `width` has no effect on states.
    """

    state_schema: ClassVar[StateSchema] = replicated("noise_frequencies")

    def fit(self, x: Tensor, width: float, generator: Generator) -> Tensors:
        return {"noise_frequencies": (x.sum(0) + 1) / (len(x) + 2)}

    def sample(self, fitted: Tensors, count: int, generator: Generator) -> Tensor:
        p = fitted["noise_frequencies"]
        return (p.new_empty(count, len(p)).uniform_(generator=generator) < p).to(p)

    def log_prob(self, fitted: Tensors, y: Tensor) -> Tensor:
        p = fitted["noise_frequencies"]
        return y @ (p.log() - torch.log1p(-p)) + torch.log1p(-p).sum()


NOISE_DISTRIBUTIONS: dict[str, _NoiseDistribution] = {
    "frequencies": _FrequencyNoise(),
    "gaussian": _GaussianNoise(),
    "uniform": _UniformNoise(),
    "kernel": _KernelNoise(),
}


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and Cholesky root (d, d) of the covariance, computed in float64.

    1e-6 of the mean variance is added to the diagonal (1 if the variance is 0), so that linearly
    dependent coordinates also have a density.
    """
    exact = x.double()
    centred = exact - exact.mean(0)
    covariance = centred.T @ centred / len(x)
    scale = covariance.diagonal().mean()
    covariance.diagonal().add_(torch.where(scale > 0, 1e-6 * scale, torch.ones_like(scale)))
    return exact.mean(0).to(x), torch.linalg.cholesky(covariance).to(x)


def _whiten(y: Tensor, root: Tensor) -> Tensor:
    """root^-1 y for each row of y, (n, d)."""
    return torch.linalg.solve_triangular(root, y.T, upper=False).T


def _log_unit_gaussian(squared: Tensor, root: Tensor) -> Tensor:
    """log N(y; c, root root'), given ||root^-1 (y - c)||^2."""
    log_root = root.diagonal().log().sum()
    return -squared / 2 - log_root - len(root) / 2 * math.log(2 * math.pi)
