"""Kernel Stein discrepancy and Fisher divergence of a model's score.

Both compare scores only and are therefore nearly insensitive to the weights of separated modes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebmtrain.evaluation.estimators.u_statistics import u_statistics
from ebmtrain.score import gradients, stein_kernel
from ebmtrain.types import Dataset, Energy

_AT_ONCE = 1024  # points per pass: a true density may keep a table for each of them


def scores(energy: Energy, x: Tensor, temperature: float = 1.0) -> Tensor:
    """The score s(x) = -dE/dx / T, of the shape of x, detached."""
    return -gradients(energy, x, _AT_ONCE) / temperature


def stein_discrepancies(x: Tensor, s: Tensor, lengths: list[float], signs: Tensor) -> Tensor:
    """Unbiased estimate of the squared kernel Stein discrepancy of points x to the density with
    score s, (shuffles,):

        KSD^2 = E (s(x) - s_x(x))'(s(y) - s_x(y)) k(x, y) for independent points x, y

    s_x is the score of the points' density. k is the mean over lengths of (1 + ||x - y||^2 /
    length^2)^(-1/2) <= 1, so that KSD^2 is at most the Fisher divergence. In inverse squared units
    of x; an estimate may be negative. For the Stein kernel see `stein_kernel`.

    Args:
        x, s: points and their scores, (n, d) each, n >= 2.
        lengths: of the kernels.
        signs: (n, shuffles); random ones make a wild bootstrap (Chwialkowski et al., ICML 2016).
    """

    def h(rows: slice) -> Tensor:
        kernels = (c * stein_kernel(x[rows], s[rows], x, s, c) for c in lengths)
        return sum(kernels, torch.zeros(())) / len(lengths)

    return u_statistics(h, len(x), signs)


def true_scores(dataset: Dataset, u: Tensor) -> Tensor | None:
    """Scores of the true density at standardized points u, in standardized units, of the shape of
    u; None if the true density is unknown or not differentiable (as a checkerboard).
    """
    truth, units = dataset.truth, dataset.standardization
    if truth is None:
        return None

    def energy(x: Tensor) -> Tensor:
        points = units.to_data(x)
        return units.log_slope(points) - truth.log_prob(points)

    with torch.enable_grad():
        if not energy(u[:1].clone().requires_grad_()).requires_grad:
            return None
    return scores(energy, u)


def fisher_divergence(s: Tensor, true: Tensor) -> float:
    """Fisher divergence mean ||s - s_true||^2 over points of the true density, without the factor
    1/2 that some authors include; in inverse squared units of x. Both scores are (n, *event).
    """
    return float((s - true).flatten(1).square().sum(1).mean())
