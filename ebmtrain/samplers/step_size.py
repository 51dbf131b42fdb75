"""Step sizes and temperatures that change along a chain."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

_Size = TypeVar("_Size", float, Tensor)


def geometric_schedule(start: _Size, end: float | None, n_steps: int, index: int) -> _Size:
    """start * (end / start)^(i / (n - 1)) at step i = index < n = n_steps, then `end`.

    Constant at `start` if `end` is None.

    Args:
        start, end: > 0, in the same unit.
    """
    if end is None:
        return start
    fraction = min(index / (n_steps - 1), 1.0) if n_steps > 1 else 1.0
    return start ** (1 - fraction) * end**fraction
