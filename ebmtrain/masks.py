"""Sequences of different lengths in one tensor.

A point is (length, channels), with the length of the longest sequence. The steps after the end of
a shorter sequence are missing: NaN in every channel. The mask is therefore part of the point.
Elementwise operations keep it (x + gradient + noise is NaN where x is); all other code uses the
functions below. Zeros are filled in by `torch.where` on x itself, before any arithmetic, since
0 * NaN is NaN in a gradient too.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def lengths(x: Tensor) -> Tensor:
    """Steps of each sequence, (batch, length, channels) -> (batch,) int64, at least 1.

    A step is present if it or a later one holds a number. A NaN that arises in a computation, in
    the middle of a sequence or in all of it, is therefore no mask: it stays NaN, and so does the
    energy.
    """
    places = torch.arange(1, x.shape[1] + 1, device=x.device)
    return (places * ~x.isnan().all(2)).amax(1).clamp(min=1)


def step_mask(x: Tensor) -> Tensor:
    """True at present steps, (batch, length, channels) -> (batch, length) bool."""
    return prefix_mask(lengths(x), x.shape[1])


def prefix_mask(ends: Tensor, length: int) -> Tensor:
    """True at the first `ends` of `length` steps, (batch,) of integers -> (batch, length) bool."""
    return torch.arange(length, device=ends.device) < ends[:, None]


def fill_zeros(x: Tensor, mask: Tensor) -> Tensor:
    """x with zeros at missing steps, which get no gradient.

    Args:
        mask: (batch, length), of `step_mask`.
    """
    return torch.where(mask[..., None], x, 0.0)


def truncate(x: Tensor, steps: Tensor) -> Tensor:
    """The first steps of each sequence; NaN after them.

    Args:
        steps: (batch,), how many of each to keep.
    """
    return torch.where(prefix_mask(steps, x.shape[1])[..., None], x, torch.nan)


def _where_present(v: Tensor, x: Tensor, otherwise: float = 0.0) -> Tensor:
    """v, with `otherwise` at the missing elements of x; both of one shape, of any event."""
    return torch.where(x.isnan(), otherwise, v)


def squared_norm(v: Tensor, x: Tensor) -> Tensor:
    """sum v_i^2 over the present elements i of x, (batch, *event) -> (batch,)."""
    return _where_present(v, x).flatten(1).square().sum(1)


def normal_like(x: Tensor, generator: Generator) -> Tensor:
    """N(0, 1) at the present elements of x, NaN at the others."""
    return _where_present(torch.empty_like(x).normal_(generator=generator), x, torch.nan)


def channel_range(x: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest value of each channel over all present steps, (n, length, channels) -> two
    of (length, channels), equal at every step, since few sequences may have the last ones."""
    low = torch.where(x.isnan(), torch.inf, x).amin((0, 1))
    high = torch.where(x.isnan(), -torch.inf, x).amax((0, 1))
    return low.expand(x.shape[1:]).clone(), high.expand(x.shape[1:]).clone()


def finite_mask(x: Tensor) -> Tensor:
    """True for points whose present elements are all finite, (n, *event) -> (n,) bool. All elements
    of a point that is no sequence (length, channels) are present."""
    fine = x.isfinite()
    if x.ndim == 3:
        fine = fine | ~step_mask(x)[..., None]
    return fine.flatten(1).all(1)
