"""Where the runs of a folder are. Imports no torch: a sweep looks before it begins."""

from __future__ import annotations

import os
from pathlib import Path

PRESETS_FOLDER = "presets"  # folder of a sweep that holds configurations and no runs
_INSIDE = (PRESETS_FOLDER, "checkpoints", "plots", "samples")


def find_runs(folder: Path) -> list[Path]:
    """The run directories beneath it, at any depth, jobs of a sweep in their order.

    A run is known by its config.yaml or result.json, links included. Links to folders are not
    followed.
    """
    found = []
    for name, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if f not in _INSIDE]
        if {"config.yaml", "result.json"} & {*files, *folders} and Path(name) != folder:
            found.append(Path(name))
    return sort_by_job_number(folder, [path for path in found if not _holds_runs(path)])


def _holds_runs(path: Path) -> bool:
    """Whether it is no run itself: its result.json sums up the runs in it."""
    if (path / "config.yaml").exists():
        return False
    return any((inner / "config.yaml").exists() for inner in path.iterdir() if inner.is_dir())


def find_links(folder: Path) -> list[Path]:
    """Links to folders, which may hold runs of elsewhere."""
    found = []
    for name, folders, _ in os.walk(folder):
        folders[:] = [f for f in folders if f not in _INSIDE]
        found += [Path(name, f) for f in folders if Path(name, f).is_symlink()]
    return sort_by_job_number(folder, found)


def sort_by_job_number(folder: Path, paths: list[Path]) -> list[Path]:
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    return sorted(paths, key=lambda path: (_number(names[path]), names[path]))


def _number(name: str) -> int:
    """Job directories begin with the job's number; others come first."""
    head = name.split("_", 1)[0]
    return int(head) if head.isdecimal() and len(head) < 10 else -1
