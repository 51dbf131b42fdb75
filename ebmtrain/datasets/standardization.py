"""The units that models learn in, from the training points."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ebmtrain.errors import DataError
from ebmtrain.masks import step_mask
from ebmtrain.types import Standardization

Standardize = Literal[True, False, "whiten"]
PixelScaling = Literal["range", True, False, "whiten"]
"""Of data with bounds, which `range` takes to -1 and 1."""
_MIN_RELATIVE_VARIANCE = 1e-9  # share of the mean variance below which a direction counts as none


def fit_standardization(points: Tensor, standardize: Standardize) -> Standardization:
    """Mean and standard deviation of each coordinate; shift 0 and scale 1 if not `standardize`.

    Of sequences of different lengths: those of each channel over all steps that are there, the same
    for every step. Few sequences may have the last ones, and a deviation that hangs by two of them
    says nothing of a third.

    A coordinate that never changes gets scale 1: it stays finite, and a model sees it as 0.

    `whiten`: with the root of the correlations as well, so that coordinates are uncorrelated.
    Of all such choices this one leaves each coordinate nearest to the column that it comes from
    (Kessy, Lewin & Strimmer, Am. Stat. 72, 2018: ZCA-cor).

    Args:
        points: (n, *event), n >= 1. The statistics are taken in float64.

    Raises:
        DataError: columns that depend on each other cannot be whitened, nor can sequences of
            different lengths.
    """
    exact = points.double()
    if not standardize:
        zero = torch.zeros_like(exact[0])
        return Standardization(zero, zero + 1)
    if exact.isnan().any():
        return _fit_channels(exact, standardize)
    simple = _fit_elements(exact)
    if standardize != "whiten":
        return simple
    return simple._replace(mixing=_correlation_root(simple.to_standard(exact).flatten(1)))


def _fit_elements(exact: Tensor) -> Standardization:
    """Of each element of (n, *event) points over all of them."""
    mean = exact.mean(0)
    scale = (exact - mean).square().mean(0).sqrt()
    # The mean of equal numbers is rounded, so a constant column shows a deviation of that order.
    constant = scale <= 1e-12 * exact.abs().amax(0)
    return Standardization(mean, torch.where(constant, torch.ones_like(scale), scale))


def _fit_channels(exact: Tensor, standardize: Standardize) -> Standardization:
    """Of each channel of (n, length, channels) sequences over all steps that are there."""
    if standardize == "whiten":
        raise DataError(
            "sequences of different lengths cannot be whitened: dataset.standardize=true"
        )
    units = _fit_elements(exact[step_mask(exact)])
    shift, scale = (v.expand(exact.shape[1:]).clone() for v in units[:2])
    return Standardization(shift, scale)


def _correlation_root(u: Tensor) -> Tensor:
    """R^(1/2) of the correlations R of (n, d) points of mean 0 and deviation 1: symmetric."""
    values, vectors = torch.linalg.eigh(u.T @ u / len(u))
    flat = int((values < _MIN_RELATIVE_VARIANCE).sum())
    if flat:
        raise DataError(
            f"{u.shape[1]} columns of {len(u)} training points span {u.shape[1] - flat} dimensions "
            "only, which cannot be whitened: leave out columns that follow from others, or "
            "dataset.standardize=true"
        )
    return (vectors * values.sqrt()) @ vectors.T
