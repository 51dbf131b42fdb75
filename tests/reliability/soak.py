"""Long runs of the reliability tests, for the counts of docs/reliability.md: `make soak`, or

    make soak COUNTS="--kills 221 --chains 104"     # some of them

Each count is measured by the functions that the tests use with small counts. docs/reliability.csv
has one row per guarantee, and the table of docs/reliability.md is made from it. Rows that a call
does not measure stay.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import chaos
import leaks
import test_ablation
import test_checkpoint_format
import test_crash_states
import test_lock
import torch
from kills import METHODS, Reference, server, several, spread

DOCS = Path(__file__).parents[2] / "docs"
COLUMNS = ("promise", "tried", "outcome", "cpu_minutes", "date", "machine", "command")


class Finding(NamedTuple):
    promise: str
    tried: str
    outcome: str


def kills(count: int, folder: Path) -> Finding:
    """Each method is killed at its share of `count` points, with other names for each."""
    each, good, names, tried = -(-count // len(METHODS)), 0, set(), 0
    with server() as do:
        for shift, method in enumerate(METHODS):
            reference = Reference(do, method, folder)
            for number in spread(reference.points, 11 * shift, each):
                found = reference.killed(str(number), [number])
                good += found == []
                tried += 1
                names.add(reference.points[number - 1])
                if found:
                    print(f"{method} at {number} {reference.points[number - 1]}: {found[:3]}")
    return Finding(
        "killed at a named point and resumed: bit-identical",
        f"{tried} kills at {len(names)} points, {len(METHODS)} methods",
        f"{good} of {tried}",
    )


def chains(count: int, folder: Path) -> Finding:
    """Runs that are killed five times."""
    each, good, tried = -(-count // len(METHODS)), 0, 0
    with server() as do:
        for method in METHODS:
            reference = Reference(do, method, folder)
            for seed in range(each):
                found = reference.killed(f"five-{seed}", several(reference.points, seed))
                good += found == []
                tried += 1
                if found:
                    print(f"{method}, chain {seed}: {found[:3]}")
    return Finding(
        "killed five times in a row and resumed each time: bit-identical",
        f"{tried} runs, {len(METHODS)} methods",
        f"{good} of {tried}",
    )


def ablation(count: int, folder: Path) -> Finding:
    """`count` methods."""
    tried, unmissed = 0, []
    for method in list(METHODS)[:count]:
        (folder / method).mkdir()
        with test_ablation.stop_run(method, folder / method) as stopped:
            for drop in (test_ablation.undetected_omissions, test_ablation.undetected_resets):
                number, found = drop(stopped, folder / method)
                tried += number
                unmissed += [f"{method} {name}" for name in found]
    print(*unmissed, sep="\n")
    return Finding(
        "saved items that are dropped or not restored: refused or detected",
        f"{tried} items, {count} methods",
        f"{tried - len(unmissed)} of {tried}",
    )


def states(count: int, folder: Path) -> Finding:
    """`count` losses of each broken protocol are enough."""
    kept = test_crash_states.count(
        test_crash_states.session(folder / "ours", test_crash_states.ours)
    )
    losses = []
    for name, protocol in test_crash_states.BROKEN.items():
        recorder, operations, best = protocol(folder / name)
        found = test_crash_states.count(recorder, operations, best=best, enough=count)
        losses.append(f"{name} {found[1]} of {found[0]}")
    return Finding(
        "states after a power loss in which a completed save is lost",
        f"{kept[0]} different states of 8 saves",
        f"{kept[1]}; broken protocols: {', '.join(losses)}",
    )


def damage(count: int, folder: Path) -> Finding:
    """Half of them flipped bits, half of them cut."""
    with server() as do:
        data = (Reference(do, "pcd", folder).path / "checkpoints/last.pt").read_bytes()
    loaded = test_checkpoint_format.undetected_damage(data, count)
    return Finding(
        "checkpoints with bit flips or truncations that are loaded", f"{count:,}", f"{loaded}"
    )


def races(count: int, folder: Path) -> Finding:
    wrong = test_lock.races(count, folder)
    print(*wrong, sep="\n")
    return Finding(
        "eight processes race for one directory: one wins, seven end with exit code 5",
        f"{count} races, each winner killed while it holds the lock",
        f"{count - len(wrong)} of {count}",
    )


def fuzz(kind: str, count: int) -> Finding:
    """In a process of its own: its hooks cannot be taken off again."""
    other = {"configurations": "checkpoints", "checkpoints": "configurations"}[kind]
    program = str(Path(__file__).with_name("fuzzing.py"))
    words = [sys.executable, program, f"--{kind}", str(count), f"--{other}", "0"]
    said = subprocess.run(words, stdout=subprocess.PIPE, text=True).stdout
    print(said, end="")
    line = next(line for line in said.splitlines() if line.startswith(f"{count:,} {kind}, "))
    return Finding(
        f"mutated {kind} of a run: opened with an undocumented exit code, or with code executed or "
        "files written outside of the run",
        f"{count:,}",
        line.partition(", ")[2].partition(" faults;")[0],
    )


def configurations(count: int, folder: Path) -> Finding:
    return fuzz("configurations", count)


def checkpoints(count: int, folder: Path) -> Finding:
    return fuzz("checkpoints", count)


def flat(what: str, unit: str, per: int, watch: leaks.Watch) -> Finding:
    memory = watch.seen[-1][1]
    slope, descriptors = watch.slope(per), watch.descriptors()
    return Finding(
        f"resident memory and open files over {what}",
        f"{watch.seen[-1][0]:,} {unit}",
        f"{slope:+.2f} MB per {per:,} (of {memory:.0f} MB); {descriptors} descriptors",
    )


def chaos_rounds(count: int, folder: Path) -> Finding:
    wrong, _ = chaos.chaos(count, folder / "chaos")
    return Finding(
        "disturbed at random (kills, signals, full disks, renames, links, clock steps) while "
        "training, resuming, evaluating, sweeping or reporting, then resumed: not bit-identical, "
        "or code executed, files written outside, an unexpected error",
        f"{count} rounds",
        f"{wrong} of {count}",
    )


def steps(count: int, folder: Path) -> Finding:
    watch = leaks.steps(count, folder)
    return flat("updates, with 1,000 saves and rows", "updates", 100_000, watch)


def resumes(count: int, folder: Path) -> Finding:
    return flat("resumes in one process", "resumes", 1000, leaks.resumes(count, folder))


def figures(count: int, folder: Path) -> Finding:
    return flat("landscapes in one process", "figures", 1000, leaks.figures(count, folder))


SECTIONS: dict[str, tuple[Callable[[int, Path], Finding], int]] = {
    "kills": (kills, 221),
    "chains": (chains, 104),
    "ablation": (ablation, 13),
    "states": (states, 100),
    "damage": (damage, 10_000),
    "races": (races, 100),
    "configurations": (configurations, 10_000),
    "checkpoints": (checkpoints, 10_000),
    "chaos": (chaos_rounds, 200),
    "steps": (steps, 1_000_000),
    "resumes": (resumes, 1000),
    "figures": (figures, 1000),
}


def measured(name: str, count: int) -> dict[str, str]:
    began = os.times()
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None  # memory: a kill does not need a disk
    with tempfile.TemporaryDirectory(prefix="soak-", dir=place) as folder:
        found = SECTIONS[name][0](count, Path(folder))
    ended = os.times()
    spent = sum(ended[:4]) - sum(began[:4])
    print(f"{found.promise}: {found.outcome} ({found.tried})", flush=True)
    return {
        **found._asdict(),
        "cpu_minutes": f"{spent / 60:.1f}",
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, torch {torch.__version__}",
        "command": f'make soak COUNTS="--{name} {count}"',
    }


def section(row: dict[str, str]) -> str:
    return row["command"].partition("--")[2].split()[0]


def record(row: dict[str, str]) -> None:
    """Replaces the row of the same command with any count."""
    path = DOCS / "reliability.csv"
    rows = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    rows = [old for old in rows if section(old) != section(row)] + [row]
    rows.sort(key=lambda each: list(SECTIONS).index(section(each)))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_table() -> None:
    """Writes the table of docs/reliability.md; the text before it stays."""
    with (DOCS / "reliability.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    path = DOCS / "reliability.md"
    before, heading, rest = path.read_text(encoding="utf-8").partition("\n## Counts\n")
    above = before + heading + rest.partition("\n| ")[0]
    names = ("promise", "tried", "outcome", "cpu_minutes", "date", "machine", "command")
    heads = ("test", "cases", "outcome", "CPU minutes", "date", "machine", "command")
    lines = [heads, ["---"] * len(heads)]
    lines += [[row[n] if n != "command" else f"`{row[n]}`" for n in names] for row in rows]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    path.write_text(f"{above}\n{table}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, (_, count) in SECTIONS.items():
        parser.add_argument(f"--{name}", type=int, metavar=count)
    given = vars(parser.parse_args())
    if not any(given.values()):
        given = {name: count for name, (_, count) in SECTIONS.items()}
    began = time.time()
    for name, count in given.items():
        if count:
            record(measured(name, count))
            write_table()
    print(f"{(time.time() - began) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
