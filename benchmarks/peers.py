"""Training steps of ebmtrain and of other tools, side by side: `make bench`.

    python benchmarks/peers.py                              everything, most of an hour
    python benchmarks/peers.py --batches 128 --sweeps none --tools ebmtrain by_hand floor
    python benchmarks/peers.py --quick                      all of it at tiny sizes, to see it work
    python benchmarks/peers.py --render                     table and plot anew from peers.json

Each tool works in a process of its own (see tools.py), on the same cores, one at a time, by turns:
a round is an epoch of each. What is compared are medians over rounds, and medians of the ratios
within a round. With one thread (the default, as ebmtrain's presets have it) the time is the
processor's, which other programs disturb less than the clock's.

Writes benchmarks/results/peers.json, docs/images/speed.png and the table of docs/performance.md;
with --out elsewhere, or --quick, a plot beside it and no table. A tool that is not installed, or
fails, has no row and is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tools import TOOLS, Setting

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
PLOT = ROOT / "docs" / "images" / "speed.png"
PAGE = ROOT / "docs" / "performance.md"
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
SWEPT = ("ebmtrain", "ebmtrain_compiled", "by_hand", "torchebm", "jax", "floor")
LONGEST = 900.0  # seconds that a tool may take for one answer


class Worker:
    """A tool that waits for its turn."""

    def __init__(self, tool: str, setting: Setting, threads: int, cache: str):
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "TORCHINDUCTOR_CACHE_DIR": cache,  # no graph is left from earlier ones
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks/tools.py"), tool, json.dumps(asdict(setting))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=environment,
        )  # fmt: skip
        try:
            self.ready: float = self.answer()["ready"]
        except BaseException:
            self.kill()
            raise

    def answer(self) -> Any:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], LONGEST)[0]:
            raise RuntimeError(f"no answer within {LONGEST:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError((self.errors.read().strip().splitlines() or ["it ended"])[-1])
        return json.loads(line)

    def turn(self) -> tuple[float, float]:
        """Seconds per update, by the clock and of the processor."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return tuple(self.answer())

    def end(self) -> float:
        """Peak memory in MB."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        peak = self.answer()["peak_mb"]
        self.kill()
        return peak

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            assert pipe is not None
            with suppress(BrokenPipeError):  # of a turn that it was told and did not take
                pipe.close()


def timed(
    tools: list[str], setting: Setting, rounds: int, threads: int, cache: str, failed: list[Any]
) -> dict[str, dict[str, Any]]:
    """Of each tool its times, one (clock, processor) of each round, seconds of its first epochs and
    its peak memory; one that fails is added to `failed` with the reason and left out."""
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
    """A row of each tool."""
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
            "tool": tool, **asdict(setting),
            "us_per_step": 1e6 * statistics.median(times[tool]),
            "us_per_step_clock": 1e6 * statistics.median(t[0] for t in one["times"]),
            "ratio_to_floor": ratios.get("floor", 1.0 if tool == "floor" else None),
            "ratio_to": ratios, "first_epochs_s": one["ready"], "peak_mb": one["peak_mb"],
        })  # fmt: skip
        print(f"  {tool:18} {rows[-1]['us_per_step']:9.0f} us", flush=True)
    return rows


def missing(tools: list[str]) -> dict[str, str]:
    """Those of the tools that are not installed, and what they lack."""
    lacks = {t: [name for name in NEEDS.get(t, ()) if find_spec(name) is None] for t in tools}
    return {tool: f"{', '.join(names)} not installed" for tool, names in lacks.items() if names}


def everything(options: argparse.Namespace) -> dict[str, Any]:
    base, values = (QUICK, QUICK_SWEEPS) if options.quick else (BASE, SWEEPS)
    absent = missing(options.tools)
    for tool, reason in absent.items():
        print(f"{tool}: {reason}: left out", flush=True)
    tools = [tool for tool in options.tools if tool not in absent]
    rounds, threads = options.rounds, options.threads
    rows: list[Any] = []
    swept: list[Any] = []
    failed: list[Any] = []
    with tempfile.TemporaryDirectory() as cache:
        for method in options.methods:
            # TorchEBM's defaults are those of its persistent chains.
            chosen = [t for t in tools if (t, method) != ("torchebm_defaults", "dsm")]
            for batch in options.batches:
                print(f"{method} B={batch}", flush=True)
                setting = replace(base, method=method, batch=batch)
                rows += measured(chosen, setting, rounds, threads, cache, failed)
        first = replace(base, method=options.methods[0], batch=options.batches[0])
        again = first_epochs_cached(first, threads, cache) if "ebmtrain_compiled" in tools else None
    for name in options.sweeps:
        for value in values[name]:
            print(f"{name}={value}", flush=True)
            setting = replace(base, method=options.methods[0], **{name: value})
            chosen = [tool for tool in SWEPT if tool in tools]
            with tempfile.TemporaryDirectory() as cache:
                found = measured(chosen, setting, min(3, rounds), threads, cache, failed)
            swept += [{**row, "swept": name} for row in found]
    return {
        "date": str(date.today()), "machine": processor(), "threads": threads, "rounds": rounds,
        "versions": versions(), "missing": absent, "failed": failed,
        "first_epochs_cached_s": again, "rows": rows, "sweeps": swept,
    }  # fmt: skip


def first_epochs_cached(setting: Setting, threads: int, cache: str) -> float | None:
    """Seconds of compiled ebmtrain's first epochs where the cache on disk knows the graph."""
    try:
        worker = Worker("ebmtrain_compiled", setting, threads, cache)
    except RuntimeError as error:
        print(f"  once more with the cache: {error}", flush=True)
        return None
    worker.end()
    return worker.ready


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
    return f"{name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "torchebm", "jax", "optax"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def number(value: float | None, form: str = ".2f") -> str:
    return "" if value is None else format(value, form)


def table(results: dict[str, Any]) -> str:
    words = ", ".join(f"{name} {v}" for name, v in results["versions"].items())
    cached = results["first_epochs_cached_s"]
    lines = [
        f"{results['date']}, {results['machine']}; {results['threads']} thread(s), medians of "
        f"{results['rounds']} rounds; {words}.", "",
        "| method | B | tool | us per step | times the floor | ebmtrain's time to it | compiled "
        "ebmtrain's | first two epochs, s | peak MB |", "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in results["rows"]:
        same = [r for r in results["rows"] if all(r[k] == row[k] for k in ("method", "batch"))]
        ours = {r["tool"]: r["ratio_to"].get(row["tool"]) for r in same}
        lines.append(
            f"| {row['method']} | {row['batch']} | {row['tool']} | {row['us_per_step']:.0f} "
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


def plot(results: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["swept"] for row in results["sweeps"]))
    if not names:
        return
    figure = Figure(figsize=(3.6 * len(names), 3.4), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    shades = ("#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#777777")
    colours = dict(zip(SWEPT, shades, strict=True))
    for ax, name in zip(axes, names, strict=True):
        for tool in SWEPT:
            mine = [r for r in results["sweeps"] if r["swept"] == name and r["tool"] == tool]
            x, y = [r[name] for r in mine], [r["us_per_step"] for r in mine]
            if mine:
                line = "--" if tool == "floor" else "o-"
                ax.loglog(x, y, line, color=colours[tool], label=tool)
        ax.set_xlabel({"batch": "B", "dim": "dimension"}.get(name, name))
    axes[0].set_ylabel("microseconds per step")
    axes[0].legend(frameon=False, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def render(results: dict[str, Any]) -> None:
    """Puts the table in its page."""
    begin, end = "<!-- table: made by make bench -->\n", "<!-- end of table -->"
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(begin)
    PAGE.write_text(before + begin + table(results) + "\n" + end + rest.split(end)[1], "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--methods", nargs="+", choices=["pcd", "dsm"], default=["pcd", "dsm"])
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--sweeps", nargs="+", choices=[*SWEEPS, "none"])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; into a file of its own")
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/peers.json")
    options = parser.parse_args()
    quick = options.quick
    options.batches = options.batches or ([32] if quick else [128, 256, 1024])
    options.rounds = options.rounds or (2 if quick else 9)
    options.out = options.out or (RESULTS.with_name("quick.json") if quick else RESULTS)
    options.sweeps = options.sweeps or (["batch"] if quick else list(SWEEPS))
    options.sweeps = [name for name in options.sweeps if name != "none"]
    if not options.render:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(everything(options), indent=1) + "\n", encoding="utf-8")
    results = json.loads(options.out.read_text(encoding="utf-8"))
    print(table(results))
    official = options.out.resolve() == RESULTS
    plot(results, PLOT if official else options.out.with_suffix(".png"))
    if official:
        render(results)


if __name__ == "__main__":
    main()
