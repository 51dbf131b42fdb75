"""The units that models learn in, from the training points."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ebmtrain.errors import DataError
from ebmtrain.types import Standardization

Standardize = Literal[True, False, "whiten"]

SINGULAR = 1e-9  # share of the mean variance below which a direction counts as none


def standardization_of(points: Tensor, standardize: Standardize) -> Standardization:
    """Mean and standard deviation of each coordinate; shift 0 and scale 1 if not `standardize`.

    A coordinate that never changes gets scale 1: it stays finite, and a model sees it as 0.

    `whiten`: with the root of the correlations as well, so that coordinates are uncorrelated.
    Of all such choices this one leaves each coordinate nearest to the column that it comes from
    (Kessy, Lewin & Strimmer, Am. Stat. 72, 2018: ZCA-cor).

    Args:
        points: (n, *event), n >= 1. The statistics are taken in float64.

    Raises:
        DataError: columns that depend on each other cannot be whitened.
    """
    exact = points.double()
    if not standardize:
        zero = torch.zeros_like(exact[0])
        return Standardization(zero, zero + 1)
    mean = exact.mean(0)
    scale = (exact - mean).square().mean(0).sqrt()
    # The mean of equal numbers is rounded, so a constant column shows a deviation of that order.
    constant = scale <= 1e-12 * exact.abs().amax(0)
    simple = Standardization(mean, torch.where(constant, torch.ones_like(scale), scale))
    if standardize != "whiten":
        return simple
    return simple._replace(mixing=correlation_root(simple.to_standard(exact).flatten(1)))


def correlation_root(u: Tensor) -> Tensor:
    """R^(1/2) of the correlations R of (n, d) points of mean 0 and deviation 1: symmetric."""
    values, vectors = torch.linalg.eigh(u.T @ u / len(u))
    flat = int((values < SINGULAR).sum())
    if flat:
        raise DataError(
            f"{u.shape[1]} columns of {len(u)} training points span {u.shape[1] - flat} dimensions "
            "only, which cannot be whitened: leave out columns that follow from others, or "
            "dataset.standardize=true"
        )
    return (vectors * values.sqrt()) @ vectors.T
