"""A finished run, for notebooks and scripts: `ebmtrain.load(run_dir)`."""

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

    Args:
        checkpoint: another one, say best.pt; of this run, or a path.
        trust: packages besides ebmtrain whose parts the run may import.

    Raises:
        ConfigError: no run there, or its configuration cannot be used.
        CheckpointError: no checkpoint that is whole.
        UnsafeError: the run asks for parts of a package that is not trusted.
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
    say: Callable[[str], None],
) -> Run:
    """The same with another configuration than the saved one, say of its evaluation; `say` is told
    which checkpoints were passed over."""
    states: list[Checkpoint] = []  # of a landscape: none

    def saved() -> DataSpec:
        found, passed = run.load_checkpoint(run.checkpoint_named(checkpoint))
        for note in passed:
            say(note)
        states.append(validate_state(found))
        return DataSpec.from_state(states[-1]["frame"])

    parts = build(config, trust, saved)
    return Run(run.path, parts, *states)
