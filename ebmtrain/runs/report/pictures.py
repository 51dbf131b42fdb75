"""The pictures of a page, scaled down so that the page stays small."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ebmtrain.plots.thumbnail import thumbnail
from ebmtrain.runs.report.entry import Entry
from ebmtrain.runs.report.figures import TILE_FILES
from ebmtrain.runs.report.leaderboard import Section

_TOTAL_BYTES = 3_000_000  # of all pictures, 4 MB in base64
_MAX_PICTURES = 240  # one takes some 25 ms
_MAX_FRAMES, _MAX_FIGURES = 12, 12  # of one run
_MIN_FIGURE_SHARE = 8  # pictures per run from which on figures other than landscapes are shown


class RunPictures(NamedTuple):
    """Pictures of a run as data URIs."""

    frames: Sequence[tuple[int | None, str]]
    """Landscapes with their step, in order; one without a step if it has no landscapes."""
    figures: Sequence[tuple[str, str]]
    """Other figures with their name."""


def read_pictures(board: Sequence[Section], entries: Sequence[Entry]) -> dict[int, RunPictures]:
    """The pictures of each run, by its `id`; of more runs than pictures, of the first in the
    leaderboards."""
    ranked = [run for section in board for group in section.groups for run in group.runs]
    others = {id(e): e for e in [*ranked, *(e for e in entries if e.status != "unreadable")]}
    runs = list(others.values())[:_MAX_PICTURES]
    share = max(1, _MAX_PICTURES // max(1, len(runs)))
    chosen = [(run, *_picture_files(run, share)) for run in runs]
    n = sum(len(frames) + len(figures) for _, frames, figures in chosen)
    budget = _TOTAL_BYTES // max(1, n)
    return {
        id(run): RunPictures(
            [(step, uri) for step, f in frames if (uri := _data_uri(f, budget))],
            [(f.stem, uri) for f in figures if (uri := _data_uri(f, budget))],
        )
        for run, frames, figures in chosen
    }


def _picture_files(run: Entry, share: int) -> tuple[list[tuple[int | None, Path]], list[Path]]:
    """Landscapes with their steps, the last of them last, and other figures; at most `share`."""
    plots = run.path / "plots"
    files = sorted(f for f in plots.glob("*.png") if f.is_file() and f.name.isascii())
    steps = [
        (int(n), f)
        for f in files
        if f.stem.startswith("landscape_") and (n := f.stem[10:]).isdecimal() and len(n) < 12
    ]
    finals = [f for name in TILE_FILES for f in files if f.name == name]
    figures = [f for f in files if f not in finals[:1] and not f.stem.startswith("landscape_")]
    figures = figures[:_MAX_FIGURES] if share >= _MIN_FIGURE_SHARE else []
    n = max(1, min(_MAX_FRAMES, share - len(figures)))
    last = len(steps) - 1
    frames = [steps[round(i * last / max(1, n - 1))] for i in range(n)] if last >= n else steps
    if n == 1 and steps:
        frames = steps[-1:]
    return [*frames] or [(None, f) for f in finals[:1]], figures  # fmt: skip


def _data_uri(path: Path, max_bytes: int) -> str:
    small = thumbnail(path, max_bytes)
    return "" if small is None else f"data:image/webp;base64,{base64.b64encode(small).decode()}"
