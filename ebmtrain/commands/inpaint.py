"""`ebmtrain sample RUN --inpaint MASK --data FILE`: what the model makes of the missing parts."""

from __future__ import annotations

import math
from typing import Any

import torch

from ebmtrain.commands.answer import Answer, rows_of
from ebmtrain.datasets.reading import read_points
from ebmtrain.errors import ConfigError, DataError
from ebmtrain.loading import Run

ROWS = 16  # held-out points that are shown where no data are given


def inpainted(run: Run, mask: str, data: str | None, options: dict[str, Any]) -> Answer:
    """Draws for each row of the data."""
    event = tuple(run.parts.standardization.shift.shape)
    kept = torch.from_numpy(read_points(mask).values)
    if kept.numel() != math.prod(event) or not ((kept == 0) | (kept == 1)).all():
        raise DataError(
            f"{mask} must hold {math.prod(event)} zeros and ones, one for each number of a point: "
            "1 where it is known, 0 where it is to be filled in"
        )
    if data is not None:
        rows = rows_of(run, data, options)
    elif run.parts.dataset is not None:
        rows = run.parts.dataset.holdout[:ROWS]
    else:
        raise ConfigError("a landscape has no held-out points: give --data FILE")
    x = run.inpaint(rows, kept.view(event) == 1, options.pop("count", 1), **options)
    missing = f"{int((kept == 0).sum())} of {kept.numel()} numbers"
    of = data or "held out"
    return Answer(x, f"{len(x)} points ({of}), {missing} drawn, {x.shape[1]} times each")
