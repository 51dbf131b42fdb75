"""What a mixture's parameters must be, as a density and as an energy."""

from __future__ import annotations

import math
from collections.abc import Sequence


def check_mixture(centres: Sequence[Sequence[float]], weights: Sequence[float] | None) -> None:
    """
    Raises:
        ValueError: centres of unequal length, or weights that do not fit them.
    """
    widths = {len(centre) for centre in centres}
    if len(widths) != 1 or 0 in widths:
        raise ValueError(
            f"centres must be one or more lists of equal length, got {centres}: "
            "write one [x, y] for each mode"
        )
    if weights is None:
        return
    if len(weights) != len(centres):
        raise ValueError(
            f"got {len(weights)} weights for {len(centres)} centres: give one for each, or null"
        )
    if not (all(w >= 0 for w in weights) and 0 < sum(weights) < math.inf):
        raise ValueError(f"weights must be >= 0 with a positive sum, got {list(weights)}")
