"""What made a run: command, versions, commit, device."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch

from ebmtrain.config.experiment import Experiment


def run_info(
    parts: Experiment, choices: dict[str, str], command: Sequence[str] | None = None
) -> dict[str, Any]:
    """Command, versions, device and seed of a run, for run.json."""
    return {
        "command": list(command or sys.argv),
        "choices": choices,
        "versions": {
            "ebmtrain": version("ebmtrain"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "git": git_state(),
        "device": str(parts.device),
        "threads": torch.get_num_threads(),
        "dtype": str(parts.dtype).removeprefix("torch."),
        "seed": parts.seed,
    }


def git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether it has changes; None outside of git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
