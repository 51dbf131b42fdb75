"""Step sizes that change along a chain."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

Size = TypeVar("Size", float, Tensor)


def geometric(start: Size, end: float | None, n_steps: int, index: int) -> Size:
    """eta_i = start * (end / start)^(i / n_steps) for i < n_steps, `end` after it.

    Constant at `start` where `end` is None. Both in the unit of the step size, both positive.
    """
    if end is None:
        return start
    done = min(index / n_steps, 1.0)
    return start ** (1 - done) * end**done
