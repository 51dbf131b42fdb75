"""Does the memory of one process grow, or the number of its open files? Used by soak.py."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from kills import configuration

from ebmtrain.config.build import build
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.launch import resume, run_experiment
from ebmtrain.runs.session import Session
from ebmtrain.runs.storage.rundir import RunDir

PAGE = os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Resident memory in MB and open descriptors, by what was counted."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, int]] = []

    def look(self, at: int) -> None:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.seen.append((at, pages * PAGE / 2**20, len(os.listdir("/proc/self/fd"))))  # noqa: PTH208

    def slope(self, per: int, after: float = 0.1) -> float:
        """MB per `per`, by least squares, after that share of the whole as a warm-up."""
        at, memory, _ = np.array(self.seen).T
        warm = at >= after * at[-1]
        return float(np.polyfit(at[warm] / per, memory[warm], 1)[0])

    def descriptors(self) -> str:
        """How many are open, after the first look."""
        counts = {count for _, _, count in self.seen[1:]}
        return "-".join(str(count) for count in sorted({min(counts), max(counts)}))


@contextmanager
def without_pictures() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFigures, "draw_landscape", lambda *_: None)
        patch.setattr(RunFigures, "draw_all", lambda *_: [])
        yield patch


def steps(count: int, folder: Path, saves: int = 1000) -> Watch:
    """One run of `count` tiny updates, with `saves` checkpoints and as many rows."""
    watch, every = Watch(), max(1, count // saves)
    log = Session.log

    def watched(self: Session, state, row) -> None:
        log(self, state, row)
        if state.step % (every * max(1, saves // 100)) == 0:
            watch.look(state.step)

    words = (
        "method=dsm", "model.depth=1", "train.batch_size=8", f"train.steps={count}",
        f"train.log_every={every}", f"checkpoint.every={every}", f"evaluation.every={10 * every}",
        "plots.every=1000000000",
    )  # fmt: skip
    with without_pictures() as patch:
        patch.setattr(Session, "log", watched)
        run_experiment(build(configuration(*words)), folder / "steps", {}, quiet=True)
    return watch


def resumes(count: int, folder: Path) -> Watch:
    """One run that is stopped after each update and resumed, all in one process."""
    watch = Watch()
    never = ("checkpoint.every=1000000", "evaluation.every=1000000", "plots.every=1000000")
    words = (f"train.steps={count + 10}", *never)
    with without_pictures() as patch:
        patch.setattr(Session, "should_stop", lambda _: True)
        run_experiment(build(configuration(*words)), folder / "resumes", {}, quiet=True)
        for number in range(count):
            resume(folder / "resumes", quiet=True)
            if number % max(1, count // 100) == 0:
                watch.look(number)
    assert RunDir(folder / "resumes").load_checkpoint()[0]["step"] == count + 1
    return watch


def figures(count: int, folder: Path) -> Watch:
    """Landscapes of one model, drawn as a run draws them."""
    watch = Watch()
    experiment = build(configuration())
    figures = RunFigures(experiment, RunDir(folder / "figures"))
    assert experiment.dataset is not None
    points = experiment.standardization.to_standard(experiment.dataset.train[:50]).to(
        experiment.dtype
    )
    for number in range(count):
        figures.draw_landscape(experiment.energy, points, f"step {number}", "00000000")
        if number % max(1, count // 100) == 0:
            watch.look(number)
    return watch
