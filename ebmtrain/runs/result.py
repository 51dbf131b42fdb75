"""The keys of result.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def run_result(
    status: str,
    *,
    step: int = 0,
    seconds: float = 0.0,
    energy_evaluations: int = 0,
    metrics: Mapping[str, Any] | None = None,
    metrics_step: int | None = None,
    timings: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    best: Mapping[str, Any] | None = None,
    retries: Sequence[Mapping[str, Any]] = (),
    compiled: bool = False,
    error: str | None = None,
    signal: int | None = None,
) -> dict[str, Any]:
    """The content of result.json; the defaults are those of a run that could not start.

    Args:
        status: running, finished, interrupted, diverged or failed.
        step: updates made.
        seconds: wall clock of the run, earlier sessions included.
        energy_evaluations: points at which training evaluated the energy.
        metrics: numbers of the last evaluation, made at step `metrics_step`.
        timings: seconds that its parts took.
        warnings: of the last evaluation and of the end.
        best: metric, value and step of best.pt; None: there is none.
        retries: step, step of return and learning rate of each retry after a divergence.
        compiled: the updates were made by a compiled graph.
        error: message of the error that ended the run.
        signal: number of the signal that stopped the run.
    """
    return {
        "status": status,
        "step": step,
        "seconds": seconds,
        "energy_evaluations": energy_evaluations,
        "metrics": {} if metrics is None else metrics,
        "metrics_step": metrics_step,
        "timings": {} if timings is None else timings,
        "warnings": list(warnings),
        "best": best,
        "retries": list(retries),
        "compiled": compiled,
        "error": error,
        "signal": signal,
    }
