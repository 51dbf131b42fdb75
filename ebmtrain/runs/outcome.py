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
    """The result.

    Args:
        name: which of the many it is.
        found: the result, or what went wrong, which then is written into its own result.json.
        began: by `time.perf_counter`.
        command: see `run_experiment`.
    """
    from ebmtrain.runs.console import print_line
    from ebmtrain.runs.launch import record_failure

    if isinstance(found, Exception):
        result = record_failure(path, config, choices, found, command)
    else:
        result = found
    shown = "  ".join(
        f"{label} {result['metrics'][name]:.4f}"
        for name, label in _SHOWN.items()
        if result["metrics"].get(name) is not None
    )
    told = shown or result["status"]
    if result["error"]:
        told = f"{result['status']}: {str(result['error']).splitlines()[0]}"
    print_line(f"{name}  {told}  {time.perf_counter() - began:.1f} s")
    return result
