"""`ebmtrain.load(run_dir)`: a trained model, for notebooks and scripts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ebmtrain.config.build import build
from ebmtrain.config.trust import Trust
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.runs.storage.checkpoint_schema import Checkpoint, validate_state
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.runs.trained_run import Run


def load(
    run_dir: str | Path, *, checkpoint: str | Path | None = None, trust: Sequence[str] = ()
) -> Run:
    """The run in `run_dir`, with the weights of its newest whole checkpoint.

    The device and the floating-point type are those of the run. The process keeps its threads,
    determinism, float32 precision and environment.

    Args:
        run_dir: the run directory.
        checkpoint: a checkpoint of this run by name, e.g. best.pt, or a path.
        trust: packages besides ebmtrain whose parts the run may import.

    Raises:
        ConfigError: `run_dir` holds no run, or its configuration cannot be used.
        CheckpointError: no checkpoint is whole.
        UnsafeError: the run names parts of a package that is not trusted.
    """
    run = RunDir.open(Path(run_dir))
    notes: list[str] = []
    loaded = open_run(run, run.config(), checkpoint, tuple(trust), notes.append)
    if notes:
        warnings.warn("; ".join(notes), stacklevel=2)
    return loaded


def open_run(
    run: RunDir,
    config: dict[str, Any],
    checkpoint: str | Path | None,
    trust: Trust,
    on_notice: Callable[[str], None],
    *,
    set_up_process: bool = False,
) -> Run:
    """The trained run of a run directory, under this configuration.

    Args:
        config: the saved configuration, or one that differs in how the model is evaluated.
        checkpoint: see `load`.
        on_notice: receives one line for each damaged checkpoint that was skipped.
        set_up_process: see `build`.
    """
    states: list[Checkpoint] = []  # stays empty for an analytic landscape

    def saved() -> DataSpec:
        found, skipped = run.load_checkpoint(run.checkpoint_named(checkpoint))
        for note in skipped:
            on_notice(note)
        states.append(validate_state(found))
        return DataSpec.from_state(states[-1]["frame"])

    experiment = build(config, trust, saved, set_up_process=set_up_process)
    return Run(run.path, experiment, *states)
