"""Compares runs bit by bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

NOT_COMPARED = ("seconds", "metrics_size")  # wall clock, and how many digits it took


def load(path: Path) -> dict[str, Any]:
    """As anybody could: torch's own reader, and nothing of ebmtrain."""
    return torch.load(path, weights_only=True)


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Places where two nested states are not the same bits."""
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            return [f"{where}: keys {list(a)} and {list(b)}"]
        return [d for k in a for d in differences(a[k], b[k], f"{where}/{k}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [
            d for i, (x, y) in enumerate(zip(a, b, strict=True))
            for d in differences(x, y, f"{where}/{i}")
        ]  # fmt: skip
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and bool((bits(a) == bits(b)).all())
        return [] if same else [where]
    return [] if type(a) is type(b) and a == b else [f"{where}: {a!r} and {b!r}"]


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(-1).view(torch.uint8) if x.numel() else x


def run_differences(a: Path, b: Path) -> list[str]:
    """Between what two runs left: last and best checkpoint, metrics, samples, result."""
    found = []
    for file in ("last.pt", "best.pt"):
        states = [load(path) for run in (a, b) if (path := run / "checkpoints" / file).exists()]
        if len(states) == 1:
            found.append(f"{file}: one of the runs has none")
        for state in states:
            for name in NOT_COMPARED:
                del state[name]
        if len(states) == 2:
            found += differences(*states, file)
    found += differences(rows(a), rows(b), "metrics.jsonl")
    found += differences(table(a), table(b), "metrics.csv")
    found += differences(result(a), result(b), "result.json")
    if (a / "samples/final.npz").exists():
        left, right = ((run / "samples/final.npz").read_bytes() for run in (a, b))
        found += [] if left == right else ["samples/final.npz"]
    return found


def rows(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def table(run: Path) -> list[list[str]]:
    header, *lines = [line.split(",") for line in (run / "metrics.csv").read_text().split("\n")]
    seconds = header.index("seconds")
    return [line[:seconds] + line[seconds + 1 :] for line in (header, *lines)]


def result(run: Path) -> dict[str, Any]:
    content = json.loads((run / "result.json").read_text())
    return {k: v for k, v in content.items() if k not in ("seconds", "timings", "signal")}


def stopped_after(run: Path, step: int, copy: Path) -> Path:
    """A copy of a run as it was when the process died: later rows written, later saves not."""
    shutil.copytree(run, copy)
    kept = copy / f"checkpoints/step_{step:08d}.pt"
    for path in (copy / "checkpoints").glob("*.pt"):
        if path.name.startswith("step") and path.name > kept.name:
            path.unlink()
    shutil.copyfile(kept, copy / "checkpoints/last.pt")
    (copy / "result.json").unlink()
    shutil.rmtree(copy / "samples")
    return copy
