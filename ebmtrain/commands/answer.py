"""What `ebmtrain sample` draws for somebody's points, and how it reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ebmtrain.loading import Run


class Answer(NamedTuple):
    """Draws, and what is said of them."""

    x: Tensor
    """(points, draws of each, *event)."""
    told: str
    beside: Mapping[str, Tensor] = {}
    """What else an npz file holds, by name."""
    picture: bytes | None = None
    """PNG."""


def rows_of(run: Run, data: str, options: dict[str, Any]) -> Tensor:
    """The points of a file, (n, *event); takes `array` out of the options."""
    array = options.pop("array", None)
    return run.read(data, None if array is None else str(array))
