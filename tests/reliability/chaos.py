"""Random disturbances of training, resuming, evaluating, sweeping and reporting. Afterwards the run
is resumed without any, and must end as a run that was never disturbed.

    python tests/reliability/chaos.py --rounds 200

A round is a number: the same one makes the same choices again (`--first 47 --rounds 1`), at moments
that depend on the clock. tests/reliability/test_chaos.py makes a few, `make soak` the full count.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from forked import Child, Ended
from kills import METHODS, SMALL, left
from same_state import result
from server import final, landscape

from ebmtrain.cli.main import main
from ebmtrain.runs.figures import RunFigures

TRIED = ("pcd", "dsm", "nce", "cd", "jarzynski", "ssm")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CODES = {0, 2, 3, 4, 5, 6, 7, -signal.SIGKILL, *(128 + n for n in SIGNALS), *(-n for n in SIGNALS)}
"""That a disturbed command may end with."""
EXTRA = ("evaluation.json", "checkpoints/step_*.pt")
"""Files of `evaluate`, and of steps: a run that a signal stopped has a checkpoint of that step."""

Work = Callable[[], int]
Meddle = Callable[[Child], None]


class World:
    """A folder to run in: with runs that were never disturbed, tripwires around, and a clock."""

    def __init__(self, folder: Path):
        self.folder, self.outside = folder / "work", folder / "outside"
        self.references: dict[str, Path] = {}
        for path in (self.folder, self.outside, folder / "programs", self.folder / ".git"):
            path.mkdir(parents=True)
        (self.outside / "file").write_text("nobody writes here")
        trap = f"#!/bin/sh\ntouch {folder}/executed\n"
        for name in ("git", "sh", "trap", "hg", "ssh", "less"):
            (folder / "programs" / name).write_text(trap)
            (folder / "programs" / name).chmod(0o755)
        (self.folder / ".git/config").write_text(
            f"[core]\nfsmonitor = {folder}/programs/trap\npager = {folder}/programs/trap\n"
        )
        self.executed = folder / "executed"
        os.environ["PATH"] = f"{folder / 'programs'}:{os.environ['PATH']}"
        os.chdir(self.folder)

    def reference(self, method: str) -> Path:
        if method not in self.references:
            path = self.folder.parent / "references" / method
            ended = self.child(words(method, path))().ended()
            assert ended.code == 0, ended.err
            remove_extra_files(path)
            self.references[method] = path
        return self.references[method]

    def child(self, command: list[str], prepare: Callable[[], None] = lambda: None) -> Any:
        """Starts the command in a process of its own, after `prepare`."""

        def work() -> int:
            RunFigures.draw_landscape, RunFigures.draw_all = landscape, final
            prepare()
            return main(command)

        return lambda: Child(work, self.folder.parent)

    def found_outside(self) -> list[str]:
        faults = [] if not self.executed.exists() else ["a program was executed"]
        names = {path.name for path in self.outside.rglob("*")}
        if names != {"file"} or (self.outside / "file").read_text() != "nobody writes here":
            faults.append(f"written outside: {sorted(names)}")
        return faults


def remove_extra_files(run: Path) -> None:
    for path in (path for pattern in EXTRA for path in run.glob(pattern)):
        path.unlink()


def words(method: str, path: Path, *more: str) -> list[str]:
    return [*SMALL, *METHODS[method], *more, f"hydra.run.dir={path}"]


# Disturbances: what the process does to itself before it starts, and what others do to it


def calm(draw: random.Random, world: World, run: Path) -> tuple[Callable[[], None], Meddle]:
    return lambda: None, lambda child: None


def kill(draw: random.Random, world: World, run: Path) -> tuple[Callable[[], None], Meddle]:
    return lambda: None, send(draw, [signal.SIGKILL])


def signals(draw: random.Random, world: World, run: Path) -> tuple[Callable[[], None], Meddle]:
    return lambda: None, send(draw, draw.choices(SIGNALS, k=draw.choice((1, 1, 2))))


def send(draw: random.Random, numbers: list[signal.Signals]) -> Meddle:
    pauses = [draw.uniform(0.1, 1.5), *(draw.uniform(0, 0.3) for _ in numbers[1:])]

    def meddle(child: Child) -> None:
        for pause, number in zip(pauses, numbers, strict=True):
            time.sleep(pause)
            with suppress(ProcessLookupError):
                os.kill(child.pid, number)

    return meddle


def small_files(draw: random.Random, world: World, run: Path) -> tuple[Callable[[], None], Meddle]:
    """No file can grow beyond a limit, as with a quota."""
    size = int(10 ** draw.uniform(2, 5))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)), lambda child: None


def full_disk(draw: random.Random, world: World, run: Path) -> tuple[Callable[[], None], Meddle]:
    """From a certain write on, for some writes or for all that follow, there is no space."""
    first, count = draw.randint(1, 60), draw.choice((1, 3, 10**9))
    fault = draw.choice((errno.ENOSPC, errno.EIO, errno.EDQUOT))

    def prepare() -> None:
        write, calls = os.write, [0]

        def failing(descriptor: int, data: Any) -> int:
            calls[0] += 1
            if first <= calls[0] < first + count and descriptor > 2:
                raise OSError(fault, os.strerror(fault))
            return write(descriptor, data)

        os.write = failing

    return prepare, lambda child: None


def clock(draw: random.Random, world: World, run: Path) -> tuple[Callable[[], None], Meddle]:
    """The clock steps by days, back or ahead, and the files of the run are from another time."""
    steps = [draw.uniform(-1e6, 1e6) for _ in range(4)]

    def prepare() -> None:
        now, calls = time.time, [0]

        def stepping() -> float:
            calls[0] += 1
            return now() + steps[calls[0] // 5 % 4]

        time.time = stepping
        time.time_ns = lambda: int(1e9 * stepping())
        for path in run.rglob("*"):
            os.utime(path, (now() + steps[0], now() + steps[1]))

    return prepare, lambda child: None


def rename(draw: random.Random, world: World, run: Path) -> tuple[Callable[[], None], Meddle]:
    """The run directory is renamed, and maybe another folder takes its name, until the end."""
    pause, replace = draw.uniform(0, 1.5), draw.random() < 0.5

    def meddle(child: Child) -> None:
        time.sleep(pause)
        moved = run.with_name(f"{run.name}-moved")
        if not run.exists():
            return
        run.rename(moved)
        if replace:
            run.mkdir()
            (run / "mine").write_text("not of the run")
        child.ended_after = child.ended()
        if run.exists():
            content = {path.name for path in run.iterdir()} - {"mine"}
            if replace and content:
                child.faults = [f"written into another folder: {content}"]
            # Without a replacement, a command that started later made a run of its own.
            shutil.rmtree(run if replace else moved)
        if not run.exists():
            moved.rename(run)

    return lambda: None, meddle


def links(draw: random.Random, world: World, run: Path) -> tuple[Callable[[], None], Meddle]:
    """One of the files of the run is a link to a file outside, until the end of the command."""
    name = draw.choice((".lock", "metrics.jsonl", "run.log", "checkpoints", "plots", "samples",
                        "result.json", "config.yaml", "run.json"))  # fmt: skip
    hard = draw.random() < 0.5 and "." in name

    def prepare() -> None:
        path = run / name
        run.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.rename(path.with_name("aside"))
        if hard:
            path.hardlink_to(world.outside / "file")
        else:
            path.symlink_to(world.outside / "file" if "." in name else world.outside)

    def meddle(child: Child) -> None:
        child.ended_after = child.ended()
        path, aside = run / name, run / "aside"
        linked = path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1)
        if linked:
            path.unlink()
        if aside.exists() and not path.exists():
            aside.rename(path)
        elif aside.exists():
            aside.unlink()

    return prepare, meddle


DISTURBANCES = (calm, clock, full_disk, kill, links, rename, signals, small_files)
WEIGHTS = (1, 1, 2, 2, 1, 1, 2, 1)


def disturbed(world: World, draw: random.Random, run: Path, command: list[str]) -> list[str]:
    """Faults of one command under a random disturbance."""
    (disturbance,) = draw.choices(DISTURBANCES, WEIGHTS)
    prepare, meddle = disturbance(draw, world, run)
    child = world.child(command, prepare)()
    child.ended_after, child.faults = None, []
    meddle(child)
    ended: Ended = child.ended_after or child.ended()
    # A run keeps to the directory that it opened; a sweep and a report write where they are told.
    of_run = [] if command[0] in ("-m", "report") else child.faults
    faults = [*of_run, *world.found_outside()]
    # A sweep ends with 1 if one of its jobs failed, which report's table shows.
    if ended.code not in CODES and not (ended.code == 1 and command[0] == "-m" and not ended.err):
        faults.append(f"exit code {ended.code}: {ended.err[-300:]}")
    if "unexpected" in ended.err or "Traceback" in ended.err:
        faults.append(f"{ended.err[-500:]}")
    verb = command[0] if "=" not in command[0] else "train"
    return [f"{verb} under {disturbance.__name__}: {fault}" for fault in faults]


def finish(world: World, run: Path, command: list[str]) -> list[str]:
    """Resumes the run undisturbed, or starts it again where it has no configuration yet."""
    done = (run / "result.json").exists() and result(run).get("status") == "finished"
    if done:
        return []
    started = (run / "config.yaml").exists()
    ended = world.child(["resume", str(run)] if started else command)().ended()
    if started and ended.code == 4:  # it was stopped before its first checkpoint
        shutil.rmtree(run)
        ended = world.child(command)().ended()
    return [] if ended.code == 0 else [f"not resumed, exit code {ended.code}: {ended.err[-300:]}"]


def one_run(world: World, draw: random.Random, number: int) -> list[str]:
    method = draw.choice(TRIED)
    reference, run = world.reference(method), world.folder / f"run-{number}"
    start = words(method, run)
    faults = disturbed(world, draw, run, start)
    for _ in range(draw.randint(0, 3)):
        verb = draw.choice(("resume", "resume", "evaluate", "plot", "sample", "report"))
        more = {"sample": ["count=5", f"out={run}-points.csv"], "report": []}.get(verb, [])
        target = world.folder if verb == "report" else run
        faults += disturbed(world, draw, run, [verb, str(target), *more])
    faults += finish(world, run, start)
    remove_extra_files(run)
    faults += [f"{method}: {fault}" for fault in left(reference, run)[:3]]
    shutil.rmtree(run, ignore_errors=True)
    return faults


def one_sweep(world: World, draw: random.Random, number: int) -> list[str]:
    method, sweep = draw.choice(TRIED), world.folder / f"sweep-{number}"
    start = ["-m", *SMALL, *METHODS[method], "seed=0,1", f"hydra.sweep.dir={sweep}"]
    faults = disturbed(world, draw, sweep, start)
    faults += disturbed(world, draw, sweep, ["report", str(sweep)])
    for config in sorted(sweep.glob("*/config.yaml")):
        run = config.parent
        faults += finish(world, run, words(method, run, f"seed={run.name[-1]}"))
        remove_extra_files(run)
        if run.name.endswith("seed=0"):
            faults += [f"{method}: {fault}" for fault in left(world.reference(method), run)[:3]]
    ended = world.child(["report", str(sweep)])().ended() if sweep.exists() else None
    if ended and ended.code not in (0, 2):  # 2: the sweep was stopped before its first run
        faults.append(f"report: exit code {ended.code}: {ended.err[-300:]}")
    shutil.rmtree(sweep, ignore_errors=True)
    return faults


def one_round(world: World, number: int) -> list[str]:
    """Faults of the round of this number."""
    draw = random.Random(number)
    return (one_sweep if draw.random() < 0.15 else one_run)(world, draw, number)


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """The world in an empty folder; the working directory and PATH are as before afterwards."""
    here, path = Path.cwd(), os.environ["PATH"]
    torch.set_num_threads(1)
    for name in ("arviz_stats.base.array", "sklearn.datasets"):
        importlib.import_module(name)  # once, rather than in every process
    try:
        yield World(folder)
    finally:
        os.chdir(here)
        os.environ["PATH"] = path


def chaos(rounds: int, folder: Path, first: int = 0) -> tuple[int, Counter[str]]:
    """Rounds with a fault, and the faults."""
    wrong, faults = 0, Counter[str]()
    with world(folder) as place:
        for number in range(first, first + rounds):
            found = one_round(place, number)
            wrong += bool(found)
            faults.update(found)
            for fault in found:
                print(f"round {number}: {fault}", flush=True)
    return wrong, faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        bad, _ = chaos(asked.rounds, Path(temporary), asked.first)
    print(f"{bad} of {asked.rounds} rounds with a fault")
    raise SystemExit(bad > 0)
