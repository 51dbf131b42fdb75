"""Step sizes that change along a chain."""

from __future__ import annotations

from torch import Tensor


def geometric(start: float | Tensor, end: float | None, n_steps: int, index: int) -> float | Tensor:
    """eta_i = start * (end / start)^(i / n_steps) for i < n_steps, `end` after it.

    Constant at `start` where `end` is None. Both in the unit of the step size, both positive.
    """
    if end is None:
        return start
    return start * (end / start) ** min(index / n_steps, 1.0)
