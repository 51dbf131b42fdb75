"""The sections of a configuration that are plain numbers. The validator reads their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from ebmtrain.types import Count, Decay, WholeNumber


@dataclass(frozen=True, kw_only=True)
class Train:
    """How long, in what portions.

    Args:
        steps: updates of the parameters; 0 shows the model as it is.
        epochs: passes over the training points; where given, it is the length, whatever steps is.
        batch_size: points per update.
        ema: decay of the averaged weights, which are then what is evaluated and sampled; null:
            none, the weights themselves are.
        log_every: updates per line of metrics; each is a mean over these updates.
        ensemble: so many seeds, from `seed` on, side by side, whose updates are made as one; null
            or 1: the one run. (With a default, for run directories from before there was one.)
        leave_one_out: a run for each class of the data, in which that one is left out, in place of
            several seeds; all of them of one seed, so of one split. (With a default, likewise.)
    """

    steps: WholeNumber | None
    epochs: WholeNumber | None
    batch_size: Count
    ema: Decay | None
    log_every: Count
    ensemble: Annotated[int, Ge(1), Le(4096)] | None = None
    leave_one_out: bool = False


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """When the state is saved.

    Args:
        every: updates between two checkpoints; the last update always makes one.
        keep: how many of the newest stay beside `best.pt`; >= 2, since one may be damaged.
        best: the metric whose least value makes `best.pt`: any number that an evaluation gives, of
            which less is better; nll where this one is not measured.
    """

    every: Count
    keep: Annotated[int, Ge(2)]
    best: Annotated[str, MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class Plots:
    """When pictures are made.

    Args:
        every: updates between two landscapes; the last update always makes one.
        gif: joins them into landscape.gif at the end.
        points: samples drawn into each landscape.
    """

    every: Count
    gif: bool
    points: Count


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What is drawn at the end, into samples/final.npz and samples_final.png.

    Args:
        count: points.
        start: where the chains start: the method's own chains where it has some, noise, or data.
        chains: how many run side by side.
        burn_in: steps of each chain before the first point is taken.
        thin: steps between two points of a chain.
    """

    count: Count
    start: Literal["chains", "noise", "data"]
    chains: Count
    burn_in: WholeNumber
    thin: Count
