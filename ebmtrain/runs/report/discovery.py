"""Finds the runs in a folder. Imports no torch, as a sweep searches before it starts."""

from __future__ import annotations

import os
from pathlib import Path

PRESETS_FOLDER = "presets"  # folder of a sweep that holds configurations and no runs
_INSIDE = (PRESETS_FOLDER, "checkpoints", "plots", "samples")


def find_runs(folder: Path) -> list[Path]:
    """The run directories below `folder` at any depth, jobs of a sweep in their order.

    A run has a config.yaml or a result.json, links included. Links to folders are not followed.
    """
    found = []
    for name, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if f not in _INSIDE]
        if {"config.yaml", "result.json"} & {*files, *folders} and Path(name) != folder:
            found.append(Path(name))
    return sort_by_job_number(folder, [path for path in found if not _holds_runs(path)])


def _holds_runs(path: Path) -> bool:
    """True if the folder is no run itself: its result.json summarizes the runs in it."""
    if (path / "config.yaml").exists():
        return False
    return any((inner / "config.yaml").exists() for inner in path.iterdir() if inner.is_dir())


def find_links(folder: Path) -> list[Path]:
    """Links to folders below `folder`, which may hold runs stored elsewhere."""
    found = []
    for name, folders, _ in os.walk(folder):
        folders[:] = [f for f in folders if f not in _INSIDE]
        found += [Path(name, f) for f in folders if Path(name, f).is_symlink()]
    return sort_by_job_number(folder, found)


def sort_by_job_number(folder: Path, paths: list[Path]) -> list[Path]:
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    return sorted(paths, key=lambda path: (_number(names[path]), names[path]))


def _number(name: str) -> int:
    """The job number at the start of a job directory's name; -1 for others, which come first."""
    head = name.split("_", 1)[0]
    return int(head) if head.isdecimal() and len(head) < 10 else -1
