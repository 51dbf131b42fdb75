"""Optional bounds on a chain's gradient and position.

A chain without rejection no longer samples exp(-E / T) where either bites; one that rejects makes
up for a clipped gradient, which only changes its proposal, but not for a clamped point. So both are
off by default, and the fraction of steps in which they bit is reported as `clipped`.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Bounds(Protocol):
    """What a sampler has of them; null: none."""

    @property
    def gradient_clip(self) -> float | None: ...
    @property
    def clamp(self) -> float | None: ...


def has_bounds(sampler: Bounds) -> bool:
    return sampler.gradient_clip is not None or sampler.clamp is not None


def clip_gradient(gradient: Tensor, limit: float | None) -> tuple[Tensor, Tensor | None]:
    """The gradient with its Euclidean norm per chain at most `limit`, and 1 where it was cut.

    Shapes: (batch, *event) -> (batch, *event), (batch,). No limit: the gradient itself, None.
    """
    if limit is None:
        return gradient, None
    norm = gradient.flatten(1).norm(dim=1)
    factor = (limit / norm).clamp(max=1.0)
    return gradient * unsqueeze_like(factor, gradient), (norm > limit).to(gradient)


def clamp(x: Tensor, limit: float | None) -> tuple[Tensor, Tensor | None]:
    """x with every coordinate in [-limit, limit], and 1 where one was moved.

    No limit: x itself, None.
    """
    if limit is None:
        return x, None
    inside = x.clamp(-limit, limit)
    return inside, (x.abs() > limit).flatten(1).any(1).to(x)  # a step that is not there is not


def any_flag(*marks: Tensor | None) -> Tensor | None:
    """1 where any of the marks is 1; None if none of them can be."""
    there = [mark for mark in marks if mark is not None]
    return torch.stack(there).amax(0) if there else None


def unsqueeze_like(values: Tensor, like: Tensor) -> Tensor:
    """(batch,) -> (batch, 1, ..., 1), to broadcast against `like`."""
    return values.view(-1, *[1] * (like.dim() - 1))
