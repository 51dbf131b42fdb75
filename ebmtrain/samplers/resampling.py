"""Weighted chains: how many they are worth, and how they become unweighted ones.

Weights come as logarithms A, (..., n), and mean softmax(A) along the last axis: every group of the
leading axes is on its own.
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
    """Indices of n survivors, (..., n): i appears n softmax(A)_i times on average, rounded up or
    down (Carpenter, Clifford & Fearnhead, 1999). One uniform number a group: the survivors are
    those of the cumulated weights in which the points (j + u) / n lie.
    """
    n = log_weights.shape[-1]
    cumulated = torch.softmax(log_weights, -1).cumsum(-1)
    u = torch.empty_like(log_weights[..., :1]).uniform_(generator=generator)
    points = (torch.arange(n, device=u.device) + u) / n * cumulated[..., -1:]
    return torch.searchsorted(cumulated, points, right=True).clamp(max=n - 1)
