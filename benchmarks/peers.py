"""Compares training steps of ebmtrain and of other tools: `make bench`.

    python benchmarks/peers.py                              everything, three quarters of an hour
    python benchmarks/peers.py --batches 128 --sweeps none --tools ebmtrain by_hand floor
    python benchmarks/peers.py --quick                      everything at tiny sizes, as a test
    python benchmarks/peers.py --render                     only tables and plot, from peers.json

Each tool runs in a separate process (see tools.py), on the same cores, one at a time in turn: a
round is one epoch of each tool. Reported are medians over rounds, and medians of the ratios within
a round, with two threads each (device.threads=2 for ebmtrain) and with one, as in ebmtrain's
presets. With one thread the time is CPU time, which other programs disturb less than wall-clock
time.

The sweeps change one size at a time and use the first of the methods; growth.py fits their scaling.
Their epochs have a fixed number of operations instead of one pass through the data, so that wide
networks do not take minutes and the times of small ones are not dominated by noise.

Writes benchmarks/results/peers.json, docs/images/speed.png and the tables of docs/performance.md.
With another --out, or with --quick, writes a plot next to that file and no tables. A tool that is
not installed or fails has no row and is listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import asdict, replace
from datetime import date
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import growth
import page
from loops.setting import METHODS, Setting
from machine import processor, versions
from tools import TOOLS
from worker import Worker

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
PLOT = page.DOCS / "images" / "speed.png"
BASE = Setting("pcd", 128, 128, 2, 10)
SWEEPS = {
    "batch": [32, 128, 512, 2048], "width": [32, 128, 512, 1024], "dim": [2, 30, 300, 1000],
    "k": [1, 5, 20, 40],
}  # fmt: skip
QUICK = Setting("pcd", 32, 16, 2, 2, points=256)
QUICK_SWEEPS = {"batch": [16, 32], "width": [8, 16], "dim": [2, 4], "k": [1, 2]}
NEEDS = {
    "torchebm": ("torchebm",), "torchebm_defaults": ("torchebm",), "jax": ("jax", "optax"),
}  # fmt: skip
# TorchEBM has no energy discrepancy; its defaults are those of its persistent Langevin chains.
HAS = {"torchebm": {"pcd", "hmc", "dsm", "ssm"}, "torchebm_defaults": {"pcd"}}
OPERATIONS = 2e10  # per epoch of the sweeps: 0.2 s at 100 operations per ns
FEWEST, MOST = 8, 80  # updates of such an epoch
SWEEP_ROUNDS = 5


def timed(
    tools: list[str], setting: Setting, rounds: int, threads: int, cache: str, failed: list[Any]
) -> dict[str, dict[str, Any]]:
    """For each tool: the (wall-clock, CPU) times of each round, the seconds of its first epochs and
    its peak memory. A tool that fails is added to `failed` with the reason and left out."""
    workers: dict[str, Worker] = {}
    found: dict[str, dict[str, Any]] = {}

    def fails(tool: str, error: Exception) -> None:
        print(f"  {tool}: {error}", flush=True)
        failed.append({"tool": tool, **asdict(setting), "reason": str(error)})
        found.pop(tool, None)
        if tool in workers:
            workers.pop(tool).kill()

    try:
        for tool in tools:
            try:
                workers[tool] = Worker(tool, setting, threads, cache)
                found[tool] = {"times": [], "ready": workers[tool].ready}
            except RuntimeError as error:
                fails(tool, error)
        for _ in range(rounds):
            for tool in [*workers]:
                try:
                    found[tool]["times"].append(workers[tool].turn())
                except (RuntimeError, OSError) as error:
                    fails(tool, error)
        for tool, worker in [*workers.items()]:
            try:
                found[tool]["peak_mb"] = worker.end()
            except (RuntimeError, OSError) as error:
                fails(tool, error)
    except BaseException:
        for worker in workers.values():
            worker.kill()
        raise
    return found


def measured(
    tools: list[str], setting: Setting, rounds: int, threads: int, cache: str, failed: list[Any]
) -> list[dict[str, Any]]:
    """One row for each tool."""
    found = timed(tools, setting, rounds, threads, cache, failed)
    used = 1 if threads == 1 else 0
    times = {tool: [t[used] for t in one["times"]] for tool, one in found.items()}
    rows = []
    for tool, one in found.items():
        ratios = {
            other: statistics.median(a / b for a, b in zip(times[tool], theirs, strict=True))
            for other, theirs in times.items() if other != tool
        }  # fmt: skip
        rows.append({
            "tool": tool, "threads": threads, **asdict(setting),
            "us_per_step": 1e6 * statistics.median(times[tool]),
            "us_per_step_clock": 1e6 * statistics.median(t[0] for t in one["times"]),
            "ratio_to_floor": ratios.get("floor", 1.0 if tool == "floor" else None),
            "ratio_to": ratios, "first_epochs_s": one["ready"], "peak_mb": one["peak_mb"],
        })  # fmt: skip
        print(f"  {tool:18} {rows[-1]['us_per_step']:9.0f} us", flush=True)
    return rows


def missing(tools: list[str]) -> dict[str, str]:
    """The tools that are not installed, with the missing packages."""
    lacks = {t: [name for name in NEEDS.get(t, ()) if find_spec(name) is None] for t in tools}
    return {tool: f"{', '.join(names)} not installed" for tool, names in lacks.items() if names}


def able(tools: list[str], method: str) -> list[str]:
    """The tools that have the method."""
    return [tool for tool in tools if method in HAS.get(tool, METHODS)]


def for_a_sweep(setting: Setting) -> Setting:
    steps = min(MOST, max(FEWEST, round(OPERATIONS / setting.flops)))
    return replace(setting, points=steps * setting.batch)


def everything(options: argparse.Namespace) -> dict[str, Any]:
    base, values = (QUICK, QUICK_SWEEPS) if options.quick else (BASE, SWEEPS)
    absent = missing(options.tools)
    for tool, reason in absent.items():
        print(f"{tool}: {reason}: left out", flush=True)
    tools = [tool for tool in options.tools if tool not in absent]
    rounds, counts = options.rounds, options.threads
    rows: list[Any] = []
    swept: list[Any] = []
    failed: list[Any] = []
    with tempfile.TemporaryDirectory() as cache:
        for threads, method, batch in product(counts, options.methods, options.batches):
            print(f"{threads} thread(s), {method}, B={batch}", flush=True)
            setting = replace(base, method=method, batch=batch)
            rows += measured(able(tools, method), setting, rounds, threads, cache, failed)
        first = replace(base, method=options.methods[0], batch=options.batches[0])
        compiles = "ebmtrain_compiled" in tools
        again = first_epochs_cached(first, counts[0], cache) if compiles else None
    chosen = able([tool for tool in growth.SWEPT if tool in tools], options.methods[0])
    known: dict[Setting, list[Any]] = {}  # the sweeps cross
    for name in options.sweeps:
        for value in values[name]:
            setting = replace(base, method=options.methods[0], **{name: value})
            setting = setting if options.quick else for_a_sweep(setting)
            if setting not in known:
                print(f"{name}={value}", flush=True)
                with tempfile.TemporaryDirectory() as cache:
                    known[setting] = measured(
                        chosen, setting, min(SWEEP_ROUNDS, rounds), counts[0], cache, failed
                    )
            swept += [{**row, "swept": name} for row in known[setting]]
    return {
        "date": str(date.today()), "machine": processor(), "rounds": rounds,
        "versions": versions("torch", "torchebm", "jax", "optax"), "missing": absent,
        "failed": failed, "first_epochs_cached_s": again, "rows": rows, "sweeps": swept,
    }  # fmt: skip


def first_epochs_cached(setting: Setting, threads: int, cache: str) -> float | None:
    """Seconds of compiled ebmtrain's first epochs if the cache on disk has the graph."""
    try:
        worker = Worker("ebmtrain_compiled", setting, threads, cache)
    except RuntimeError as error:
        print(f"  once more with the cache: {error}", flush=True)
        return None
    worker.end()
    return worker.ready


def number(value: float | None, form: str = ".2f") -> str:
    return "" if value is None else format(value, form)


def table(results: dict[str, Any]) -> str:
    words = ", ".join(f"{name} {v}" for name, v in results["versions"].items())
    cached = results["first_epochs_cached_s"]
    lines = [
        f"{results['date']}, {results['machine']}; medians of {results['rounds']} rounds; {words}.",
        "", "| threads | method | B | tool | us per step | times the floor | ebmtrain's time to it "
        "| compiled ebmtrain's | first two epochs, s | peak MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in results["rows"]:
        setting = ("threads", "method", "batch")
        same = [r for r in results["rows"] if all(r[k] == row[k] for k in setting)]
        ours = {r["tool"]: r["ratio_to"].get(row["tool"]) for r in same}
        lines.append(
            f"| {row['threads']} | {row['method']} | {row['batch']} | {row['tool']} "
            f"| {row['us_per_step']:.0f} "
            f"| {number(row['ratio_to_floor'])} | {number(ours.get('ebmtrain'))} "
            f"| {number(ours.get('ebmtrain_compiled'))} | {row['first_epochs_s']:.1f} "
            f"| {row['peak_mb']:.0f} |"
        )
    if cached is not None:
        lines += ["", f"With the cache of an earlier run compiled ebmtrain's first two epochs (the "
                  f"first row's setting) take {cached:.1f} s."]  # fmt: skip
    absent = [f"{tool} ({reason})" for tool, reason in results["missing"].items()]
    absent += [
        "{tool}, {method}, B = {batch}, width {width}, dim {dim}, k = {k} ({reason})".format(**row)
        for row in results["failed"]
    ]
    if absent:
        lines += ["", f"Without rows: {'; '.join(absent)}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--sweeps", nargs="+", choices=[*SWEEPS, "none"])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", nargs="+", type=int, help="sweeps take the first")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; into a file of its own")
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/peers.json")
    options = parser.parse_args()
    quick = options.quick
    options.batches = options.batches or ([32] if quick else [128, 256, 1024])
    options.rounds = options.rounds or (2 if quick else 9)
    options.threads = options.threads or ([1] if quick else [2, 1])
    options.out = options.out or (RESULTS.with_name("quick.json") if quick else RESULTS)
    options.sweeps = options.sweeps or (["batch"] if quick else list(SWEEPS))
    options.sweeps = [name for name in options.sweeps if name != "none"]
    if not options.render:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(everything(options), indent=1) + "\n", encoding="utf-8")
    results = json.loads(options.out.read_text(encoding="utf-8"))
    tables = {"table": table(results), "growth": growth.table(results["sweeps"])}
    print(*tables.values(), sep="\n\n")
    official = options.out.resolve() == RESULTS
    growth.plot(results["sweeps"], PLOT if official else options.out.with_suffix(".png"))
    if official:
        for name, text in tables.items():
            page.put(name, text)


if __name__ == "__main__":
    main()
