"""The result of a run: the content of result.json, and one line for one run of many."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ebmtrain.config.experiment import Experiment
from ebmtrain.errors import DivergedError, EbmtrainError, LockedError, own_code_location
from ebmtrain.evaluation.alarms import GaussianReference, divergence
from ebmtrain.evaluation.headlines import HEADLINES
from ebmtrain.runs.advice import fit_advice
from ebmtrain.runs.loggers.console import LOG, RunConsole, print_line
from ebmtrain.runs.storage.manifest import is_sweep
from ebmtrain.runs.storage.rundir import RunDir

_N_REFERENCE = 10_000  # training points, whose moments the NLL is compared with
_SUMMARY_METRICS = {**HEADLINES, "auroc": "AUROC"}


@dataclass(kw_only=True)
class RunResult:
    """The items of result.json; the defaults are those of a run that could not start."""

    status: str
    """running, finished, interrupted, diverged or failed"""
    step: int = 0
    """Number of updates."""
    seconds: float = 0.0
    """Wall clock of the run, earlier sessions included."""
    energy_evaluations: int = 0
    """Number of points at which training evaluated the energy."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Of the evaluation at this step; empty if there was none."""
    metrics_step: int | None = None
    """The step, if there are metrics."""
    timings: Mapping[str, Any] = field(default_factory=dict)
    """Wall clock of parts of the last evaluation, in s."""
    warnings: Sequence[str] = ()
    """Of the last evaluation and of the end."""
    best: Mapping[str, Any] | None = None
    """metric, value and step of best.pt"""
    retries: Sequence[Mapping[str, Any]] = ()
    """step, back_to and lr of each retry after a divergence"""
    compiled: bool = False
    """True if a compiled graph computed the updates."""
    error: str | None = None
    """Message of the error that ended the run."""
    signal: int | None = None
    """Number of the signal that stopped the run."""


def error_message(error: Exception) -> str:
    """The message on one line; with file and line if code of the user's raised it."""
    location = "" if isinstance(error, EbmtrainError) else own_code_location(error)
    return ("; ".join(str(error).splitlines()) or type(error).__name__) + location


def divergence_error(
    experiment: Experiment, step: int, metrics: Mapping[str, Any], row: Mapping[str, float]
) -> DivergedError | None:
    """The error of a trained model that is not one of the data, with its remedy; see `divergence`.

    Args:
        metrics: of the evaluation at this step.
        row: metrics of the last updates.
    """
    dataset, config = experiment.dataset, experiment.config
    spec = experiment.data_spec
    if dataset is None or step == 0 or spec.ragged or spec.support.space != "real":
        return None
    some = dataset.train[:_N_REFERENCE]
    reference = GaussianReference.of(some, experiment.standardization)
    found = divergence(metrics, row, reference, config["diagnostics"]["chains"])
    if found is None:
        return None
    sampler = "lower sampler.step_size, give sampler.adaptation, " if found.slow else ""
    message = (
        f"training diverged by step {step}: {found.cause}; {sampler}lower optimizer.lr, set "
        "model.base_std, raise method.energy_regularization, or give supervisor=retry"
    )
    return DivergedError(fit_advice(message, config))


_FIRST_FILES = {".lock", "run.json"}
"""What a run that could not start may leave."""


def _record_failure(
    path: Path,
    config: dict[str, Any],
    choices: dict[str, str],
    error: Exception,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Writes result.json and run.log of a job that could not start or failed; returns the result.
    Arguments are those of `report_outcome`."""
    run = RunDir(path)
    if isinstance(error, LockedError):  # the files are of the process that holds the run
        return vars(RunResult(status="running", error=error_message(error)))
    before = run.read_json("result.json")  # of the session, with its step and numbers
    if before and before.get("status") not in ("running", "interrupted"):
        return before
    result = vars(RunResult(status="failed", error=error_message(error)))
    if not (path / "config.yaml").exists():
        if path.is_dir() and {file.name for file in path.iterdir()} - _FIRST_FILES:
            return result  # another folder has taken the place of the run
        run.write_config(config)
        run.write_json("run.json", {"command": list(command or sys.argv), "choices": choices})
    run.write_json("result.json", result)
    with RunConsole(run, quiet=True):
        LOG.error("%s", result["error"], exc_info=error)
    return result


def report_outcome(
    name: str,
    found: dict[str, Any] | Exception,
    path: Path,
    config: dict[str, Any],
    choices: dict[str, str],
    began: float,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Prints the line of one run and rebuilds the page of its sweep; returns the result.

    Args:
        name: of the run, at the start of the line.
        found: the result, or the exception that ended the run, which is written to result.json.
        began: start of the run by `time.perf_counter`, in s.
        command: see `run_experiment`.
    """
    result = found
    if isinstance(result, Exception):
        result = _record_failure(path, config, choices, result, command)
    metrics = result["metrics"]
    summary = "  ".join(
        f"{label} {metrics[metric]:.4f}"
        for metric, label in _SUMMARY_METRICS.items()
        if metrics.get(metric) is not None
    )
    if result["error"]:
        summary = f"{result['status']}: {str(result['error']).splitlines()[0]}"
    elif result["status"] == "interrupted":
        summary = f"interrupted at step {result['step']}"
    print_line(f"{name}  {summary or result['status']}  {time.perf_counter() - began:.1f} s")
    if is_sweep(path.parent):
        from ebmtrain.runs.report.write import refresh_page

        refresh_page(path.parent)
    return result
