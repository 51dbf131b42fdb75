"""What became of one run of many: written down where it failed, and said in a line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ebmtrain.evaluation.headlines import HEADLINES

_SHOWN = {**HEADLINES, "auroc": "AUROC"}


def outcome(
    name: str,
    found: dict[str, Any] | Exception,
    path: Path,
    config: dict[str, Any],
    choices: dict[str, str],
    began: float,
) -> dict[str, Any]:
    """The result.

    Args:
        name: which of the many it is.
        found: the result, or what went wrong, which then is written into its own result.json.
        began: by `time.perf_counter`.
    """
    from ebmtrain.runs.console import print_line
    from ebmtrain.runs.launch import record_failure

    result = found if isinstance(found, dict) else record_failure(path, config, choices, found)
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
