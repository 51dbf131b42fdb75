"""The sections of a configuration that hold plain values, with their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from ebmtrain.types import Count, Decay, WholeNumber


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Length and size of the updates.

    Args:
        steps: updates of the parameters; 0 evaluates the untrained model.
        epochs: passes over the training points; replaces `steps` unless null.
        batch_size: points per update; all training points if there are fewer.
        ema: decay of the averaged weights, which are then evaluated and sampled; null: the weights
            themselves are.
        log_every: updates per row of metrics, which is a mean over them.
        ensemble: number of runs with consecutive seeds whose updates are computed in one batch;
            null: a single run. Runs of earlier versions do not have it.
        leave_one_out: one run for each class of the data, which leaves that class out; all have the
            same seed and split. Runs of earlier versions do not have it.
        shards: equal parts of each batch and of the chains, each with random numbers of its own,
            which processes share (torchrun); a run has the same numbers for any number of
            processes that divides it. null: one for each process. Runs of earlier versions do not
            have it.
    """

    steps: WholeNumber | None
    epochs: WholeNumber | None
    batch_size: Count
    ema: Decay | None
    log_every: Count
    ensemble: Annotated[int, Ge(1), Le(4096)] | None = None
    leave_one_out: bool = False
    shards: Annotated[int, Ge(1), Le(4096)] | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """When the state is saved.

    Args:
        every: updates between two checkpoints; the last update always makes one.
        keep: number of the newest checkpoints that are kept, besides `best.pt`; >= 2, since one may
            be damaged.
        best: the metric whose smallest value selects `best.pt`; nll if it is not measured.
    """

    every: Count
    keep: Annotated[int, Ge(2)]
    best: Annotated[str, MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class PlotSettings:
    """When figures are drawn.

    Args:
        every: updates between two landscapes; the last update always makes one. 0: no figures.
        gif: joins them into landscape.gif at the end.
        points: samples shown in each landscape.
        format: of the figures at the end; pdf and svg are written next to png, which reports join.
            Runs of earlier versions do not have it.
        dpi: of png files and of images in the others, in pixels per inch.
    """

    every: WholeNumber
    gif: bool
    points: Count
    format: Literal["png", "pdf", "svg"] = "png"
    dpi: Annotated[int, Ge(30), Le(600)] = 110


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """The final samples, samples/final.npz and samples_final.png.

    Args:
        count: number of points.
        start: first points of the chains: the method's own chains, if it has some, noise or data.
        chains: number of parallel chains.
        burn_in: steps of each chain before its first point.
        thin: steps between two points of a chain.
    """

    count: Count
    start: Literal["chains", "noise", "data"]
    chains: Count
    burn_in: WholeNumber
    thin: Count
