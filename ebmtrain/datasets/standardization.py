"""Standardization of the training points."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ebmtrain.errors import DataError
from ebmtrain.masks import step_mask
from ebmtrain.types import Standardization

Standardize = Literal[True, False, "robust", "whiten"]
PixelScaling = Literal["range", True, False, "whiten"]
"""Of data with bounds, which `range` takes to -1 and 1."""
_QUARTILES_OF_GAUSSIAN = 1.3489795  # width of the middle half of N(0, 1)
_MIN_RELATIVE_VARIANCE = 1e-9  # of a direction, relative to the mean; below it counts as 0


def fit_standardization(points: Tensor, standardize: Standardize) -> Standardization:
    """Mean and standard deviation of each coordinate, computed in float64.

    For sequences of different lengths they are those of each channel over all steps, and the same
    at every step: too few sequences may reach the last steps for statistics of their own.

    A constant coordinate gets scale 1, so that it is finite and 0 in standardized units.

    Args:
        points: (n, *event), n >= 1.
        standardize: False: shift 0 and scale 1. `robust`: median and interquartile range divided
            by that of N(0, 1), which few extreme values do not change; where the median equals a
            quartile, mean and standard deviation. `whiten`: also multiply by the inverse root of
            the correlation matrix, so that coordinates are uncorrelated. Of all whitening
            transforms this one (ZCA-cor) keeps each coordinate closest to its original column
            (Kessy, Lewin & Strimmer, Am. Stat. 72, 2018).

    Raises:
        DataError: whitening of linearly dependent columns, or of sequences of different lengths.
    """
    exact = points.double()
    if not standardize:
        zero = torch.zeros_like(exact[0])
        return Standardization(zero, zero + 1)
    fit = _fit_quartiles if standardize == "robust" else _fit_elements
    if exact.isnan().any():
        if standardize == "whiten":
            raise DataError(
                "sequences of different lengths cannot be whitened: dataset.standardize=true"
            )
        channels = fit(exact[step_mask(exact)])
        shift, scale = (v.expand(exact.shape[1:]).clone() for v in channels[:2])
        return Standardization(shift, scale)
    simple = fit(exact)
    if standardize != "whiten":
        return simple
    return simple._replace(mixing=_correlation_root(simple.to_standard(exact).flatten(1)))


def _fit_elements(exact: Tensor) -> Standardization:
    """Mean and standard deviation of each element of (n, *event) points."""
    mean = exact.mean(0)
    scale = (exact - mean).square().mean(0).sqrt()
    # The mean of equal numbers is rounded, so a constant column has a deviation of that order.
    constant = scale <= 1e-12 * exact.abs().amax(0)
    return Standardization(mean, torch.where(constant, torch.ones_like(scale), scale))


def _fit_quartiles(exact: Tensor) -> Standardization:
    """Median and scaled interquartile range of each element of (n, *event) points."""
    low, median, high = torch.from_numpy(np.quantile(exact.numpy(), (0.25, 0.5, 0.75), axis=0))
    scale, mean = (high - low) / _QUARTILES_OF_GAUSSIAN, _fit_elements(exact)
    # A quartile at the median: of a column that is mostly one value, the range says nothing.
    regular = torch.minimum(median - low, high - median) > 1e-12 * exact.abs().amax(0)
    return Standardization(
        torch.where(regular, median, mean.shift), torch.where(regular, scale, mean.scale)
    )


def _correlation_root(u: Tensor) -> Tensor:
    """Symmetric root R^(1/2) of the correlation matrix R of points, (n, d), of mean 0 and standard
    deviation 1."""
    values, vectors = torch.linalg.eigh(u.T @ u / len(u))
    flat = int((values < _MIN_RELATIVE_VARIANCE).sum())
    if flat:
        raise DataError(
            f"{u.shape[1]} columns of {len(u)} training points span {u.shape[1] - flat} dimensions "
            "only, which cannot be whitened: leave out columns that follow from others, or "
            "dataset.standardize=true"
        )
    return (vectors * values.sqrt()) @ vectors.T
