"""`ebmtrain sample RUN --denoise FILE noise=0.3`: what the model makes of noisy points."""

from __future__ import annotations

from typing import Any

from ebmtrain.commands.answer import Answer, rows_of
from ebmtrain.commands.words import warn
from ebmtrain.errors import ConfigError, DataError
from ebmtrain.gallery import Gallery
from ebmtrain.loading import Run
from ebmtrain.rundir import RunDir


def denoised(run: Run, data: str, options: dict[str, Any]) -> Answer:
    """Draws for each row of the data, and their mean; a picture where they are images."""
    if options.get("noise") is None:
        raise ConfigError("give noise=SIGMA, its standard deviation in the units of the data")
    noise = options.pop("noise")
    y = rows_of(run, data, options)
    found = run.denoise(y, noise, options.pop("count", 1), **options)
    told = f"{len(y)} points ({data}), freed of noise {noise:g}, {found.draws.shape[1]} times each"
    picture = None
    if y.ndim > 2:  # rows of a table are no images
        try:
            picture = Gallery(run.parts, RunDir(run.path)).denoised(y, found, noise)
        except DataError as error:  # whether points are images is known to the data
            warn(f"no picture: {error}")
    return Answer(found.draws, told, {"mean": found.mean}, picture)
