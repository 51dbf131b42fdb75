"""Effective sample size and resampling of weighted chains.

Weights are given as logarithms A, (..., n). The normalised weights are softmax(A) along the last
axis; each group of the leading axes is separate.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """log (1/n sum_i exp(A_i)), (..., n) -> (...)."""
    return torch.logsumexp(log_weights, -1) - math.log(log_weights.shape[-1])


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """1 / sum_i softmax(A)_i^2, between 1 and n (Kong, 1992); (..., n) -> (...)."""
    return 1 / torch.softmax(log_weights, -1).square().sum(-1)


def systematic_resampling(log_weights: Tensor, generator: Generator) -> Tensor:
    """Indices of the n chains that are kept, (..., n), by systematic resampling (Carpenter,
    Clifford & Fearnhead, IEE Proc. Radar 146, 1999).

    Index i appears n softmax(A)_i times on average, rounded up or down.

    With one uniform number u per group, the indices are those of the cumulative weights that
    contain the points (j + u) / n.
    """
    n = log_weights.shape[-1]
    cumulative = torch.softmax(log_weights, -1).cumsum(-1)
    u = torch.empty_like(log_weights[..., :1]).uniform_(generator=generator)
    points = (torch.arange(n, device=u.device) + u) / n * cumulative[..., -1:]
    return torch.searchsorted(cumulative, points, right=True).clamp(max=n - 1)
