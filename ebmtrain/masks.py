"""Sequences of different lengths in one tensor.

A point is (length, channels), length that of the longest sequence; the steps at its end that a
sequence does not have are NaN in every channel. So the mask travels inside the point: x + gradient
+ noise is NaN where x is, and what is not elementwise asks here. Zeros are put in by `torch.where`
on x itself, before any arithmetic: 0 * NaN is NaN, in a gradient too.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def lengths(x: Tensor) -> Tensor:
    """Steps of each sequence, (batch, length, channels) -> (batch,) int64, at least 1.

    A step is there if it or a later one holds a number. So what has become NaN on the way, in the
    middle or altogether, is no mask: it stays NaN, and so does its energy.
    """
    places = torch.arange(1, x.shape[1] + 1, device=x.device)
    return (places * ~x.isnan().all(2)).amax(1).clamp(min=1)


def step_mask(x: Tensor) -> Tensor:
    """Which steps are there, (batch, length, channels) -> (batch, length) bool."""
    return prefix_mask(lengths(x), x.shape[1])


def prefix_mask(ends: Tensor, length: int) -> Tensor:
    """Which of so many steps come before each end, (batch,) of whole numbers -> (batch, length)."""
    return torch.arange(length, device=ends.device) < ends[:, None]


def fill_zeros(x: Tensor, there: Tensor) -> Tensor:
    """x with zeros at the steps that are not there: no gradient comes back to them.

    Args:
        there: (batch, length), of `step_mask`.
    """
    return torch.where(there[..., None], x, 0.0)


def truncate(x: Tensor, steps: Tensor) -> Tensor:
    """x with NaN from the given step of each sequence on.

    Args:
        steps: (batch,), counted from 1: that many stay.
    """
    return torch.where(prefix_mask(steps, x.shape[1])[..., None], x, torch.nan)


def _where_there(v: Tensor, x: Tensor, otherwise: float = 0.0) -> Tensor:
    """v, and `otherwise` at the elements that x does not have; both of one shape, any event."""
    return torch.where(x.isnan(), otherwise, v)


def squared_norm(v: Tensor, x: Tensor) -> Tensor:
    """sum v_i^2 over the elements i that x has, (batch, *event) -> (batch,)."""
    return _where_there(v, x).flatten(1).square().sum(1)


def normal_like(x: Tensor, generator: Generator) -> Tensor:
    """N(0, 1) at the elements that x has, NaN at the others."""
    return _where_there(torch.empty_like(x).normal_(generator=generator), x, torch.nan)


def channel_range(x: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest value of each channel over all steps that are there, (n, length, channels)
    -> two of (length, channels), the same at every step: few sequences may have the last ones."""
    low = torch.where(x.isnan(), torch.inf, x).amin((0, 1))
    high = torch.where(x.isnan(), -torch.inf, x).amax((0, 1))
    return low.expand(x.shape[1:]).clone(), high.expand(x.shape[1:]).clone()


def finite_mask(x: Tensor) -> Tensor:
    """Which points hold finite numbers wherever they are there, (n, *event) -> (n,) bool. Of points
    that are no sequences (length, channels), all elements are."""
    fine = x.isfinite()
    if x.ndim == 3:
        fine = fine | ~step_mask(x)[..., None]
    return fine.flatten(1).all(1)
