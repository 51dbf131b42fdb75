"""The result of one run of many: recorded if it failed, and printed as one line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ebmtrain.evaluation.headlines import HEADLINES

_SHOWN = {**HEADLINES, "auroc": "AUROC"}


def report_outcome(
    name: str,
    found: dict[str, Any] | Exception,
    path: Path,
    config: dict[str, Any],
    choices: dict[str, str],
    began: float,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Prints the line of one run; returns its result.

    Args:
        name: of the run, at the start of the line.
        found: the result, or the exception that ended the run; it is written to result.json.
        began: start of the run by `time.perf_counter`, in s.
        command: see `run_experiment`.
    """
    from ebmtrain.runs.console import print_line
    from ebmtrain.runs.launch import record_failure

    if isinstance(found, Exception):
        result = record_failure(path, config, choices, found, command)
    else:
        result = found
    summary = "  ".join(
        f"{label} {result['metrics'][name]:.4f}"
        for name, label in _SHOWN.items()
        if result["metrics"].get(name) is not None
    )
    summary = summary or result["status"]
    if result["error"]:
        summary = f"{result['status']}: {str(result['error']).splitlines()[0]}"
    print_line(f"{name}  {summary}  {time.perf_counter() - began:.1f} s")
    return result
