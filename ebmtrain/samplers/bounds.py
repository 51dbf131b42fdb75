"""Optional bounds on a chain's gradient and position.

A chain without rejection that is clipped or clamped no longer samples exp(-E / T). A chain with
rejection stays exact under a clipped gradient, which changes only its proposal, but not under a
clamped point. Both are off by default. The metric `clipped` is the fraction of steps with either.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clip_gradient(gradient: Tensor, limit: float | None) -> tuple[Tensor, Tensor | None]:
    """The gradient scaled to a Euclidean norm of at most `limit` per chain, and 1 where scaled.

    Shapes: (batch, *event) -> (batch, *event), (batch,). Without a limit: the gradient, None.
    """
    if limit is None:
        return gradient, None
    norm = gradient.flatten(1).norm(dim=1)
    factor = (limit / norm).clamp(max=1.0)
    return gradient * unsqueeze_like(factor, gradient), (norm > limit).to(gradient)


def clamp(x: Tensor, limit: float | None) -> tuple[Tensor, Tensor | None]:
    """x with every coordinate clamped to [-limit, limit], and 1 where one was clamped.

    Shapes: (batch, *event) -> (batch, *event), (batch,). Without a limit: x, None.
    """
    if limit is None:
        return x, None
    inside = x.clamp(-limit, limit)
    return inside, (x.abs() > limit).flatten(1).any(1).to(x)  # padding is NaN, compares false


def any_flag(*flags: Tensor | None) -> Tensor | None:
    """1 where any of the flags is 1, shape (batch,); None if all of them are None."""
    tensors = [flag for flag in flags if flag is not None]
    return torch.stack(tensors).amax(0) if tensors else None


def unsqueeze_like(values: Tensor, like: Tensor) -> Tensor:
    """(batch,) -> (batch, 1, ..., 1), to broadcast against `like`."""
    return values.view(-1, *[1] * (like.dim() - 1))
