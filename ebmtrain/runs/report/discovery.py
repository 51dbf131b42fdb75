"""Finds the runs in a folder. Imports no torch, as a sweep searches before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PRESETS_FOLDER = "presets"  # folder of a sweep that holds configurations and no runs
_INSIDE = (PRESETS_FOLDER, "checkpoints", "plots", "samples", "tensorboard")


def find_runs(folder: Path) -> list[Path]:
    """The run directories below `folder` at any depth, jobs of a sweep in their order.

    A run has a config.yaml or a result.json, links included. Links to folders are not followed.
    """
    found = []
    for path, folders, files in _walk(folder):
        if {"config.yaml", "result.json"} & {*files, *folders} and path != folder:
            # Without a configuration, a result may summarize the runs in the folder.
            inner = (path / name / "config.yaml" for name in folders)
            if "config.yaml" in {*files, *folders} or not any(file.exists() for file in inner):
                found.append(path)
    return sort_by_job_number(folder, found)


def find_links(folder: Path) -> list[Path]:
    """Links to folders below `folder`, which may hold runs stored elsewhere."""
    return [
        path / name
        for path, folders, _ in _walk(folder)
        for name in folders
        if (path / name).is_symlink()
    ]


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Folders below `folder` that may hold runs, each with the names of its folders and files."""
    for name, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if f not in _INSIDE]
        yield Path(name), folders, files


def sort_by_job_number(folder: Path, paths: list[Path]) -> list[Path]:
    """The paths in the order of the numbers at the start of their names; others come first."""

    def key(path: Path) -> tuple[int, str]:
        name = path.relative_to(folder).as_posix()
        head = name.replace("/", "_").split("_", 1)[0]
        return int(head) if head.isdecimal() and len(head) < 10 else -1, name

    return sorted(paths, key=key)
