"""Data that do not fit into memory are refused before they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ebmtrain.errors import DataError
from ebmtrain.runtime.memory_limit import memory_bytes

_BYTES_PER_NUMBER = 24  # float64 of all points, of the parts of the split, and standardized


def points_bytes(shape: Sequence[int]) -> int:
    """Bytes that points of this shape take in training."""
    return _BYTES_PER_NUMBER * math.prod(shape)


def points_in_memory(event: Sequence[int]) -> int:
    """A round number of points of shape `event` that leaves half of the memory for training."""
    count = max(1, memory_bytes() // (2 * points_bytes(event)))
    digit = 10 ** (len(str(count)) - 1)
    return count // digit * digit


def check_memory(name: object, needed: int, remedy: str = "save fewer points") -> None:
    """Raises DataError if `needed` bytes are more than this process may use."""
    if needed > (available := memory_bytes()):
        raise DataError(
            f"{name} does not fit into memory: its points take {_gigabytes(needed)}, and there are "
            f"{_gigabytes(available)}: {remedy}"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
