"""`ebmtrain sample RUN --denoise FILE noise=0.3`: what the model makes of noisy points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebmtrain.cli.arguments import warn
from ebmtrain.datasets.io.read_points import read_points
from ebmtrain.errors import ConfigError, DataError
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.runs.trained_run import Run


def denoise(run: Run, data: str, options: dict[str, Any]) -> SampleOutput:
    """Draws for each row of the data, and their mean; a picture where they are images."""
    if options.get("noise") is None:
        raise ConfigError("give noise=SIGMA, its standard deviation in the units of the data")
    noise = options.pop("noise")
    y = _read_rows(run, data, options)
    found = run.denoise(y, noise, options.pop("count", 1), **options)
    told = f"{len(y)} points ({data}), freed of noise {noise:g}, {found.draws.shape[1]} times each"
    picture = None
    if y.ndim > 2:  # rows of a table are no images
        try:
            picture = RunFigures(run.experiment, RunDir(run.path)).denoising_png(y, found, noise)
        except DataError as error:  # whether points are images is known to the data
            warn(f"no picture: {error}")
    return SampleOutput(found.draws, told, {"mean": found.mean}, picture)


class SampleOutput(NamedTuple):
    """Draws, and what is said of them."""

    x: Tensor
    """(points, draws of each, *event)."""
    description: str
    extra_arrays: Mapping[str, Tensor] = {}
    """What else an npz file holds, by name."""
    picture: bytes | None = None
    """PNG."""


def _read_rows(run: Run, data: str, options: dict[str, Any]) -> Tensor:
    """The points of a file, (n, *event); takes `array` out of the options."""
    array = options.pop("array", None)
    return run.read(data, None if array is None else str(array))


_N_HOLDOUT_ROWS = 16  # held-out points that are shown where no data are given


def inpaint(run: Run, mask: str, data: str | None, options: dict[str, Any]) -> SampleOutput:
    """Draws for each row of the data."""
    event = tuple(run.experiment.standardization.shift.shape)
    kept = torch.from_numpy(read_points(mask).values)
    if kept.numel() != math.prod(event) or not ((kept == 0) | (kept == 1)).all():
        raise DataError(
            f"{mask} must hold {math.prod(event)} zeros and ones, one for each number of a point: "
            "1 where it is known, 0 where it is to be filled in"
        )
    if data is not None:
        rows = _read_rows(run, data, options)
    elif run.experiment.dataset is not None:
        rows = run.experiment.dataset.holdout[:_N_HOLDOUT_ROWS]
    else:
        raise ConfigError("a landscape has no held-out points: give --data FILE")
    x = run.inpaint(rows, kept.view(event) == 1, options.pop("count", 1), **options)
    missing = f"{int((kept == 0).sum())} of {kept.numel()} numbers"
    of = data or "held out"
    return SampleOutput(x, f"{len(x)} points ({of}), {missing} drawn, {x.shape[1]} times each")
