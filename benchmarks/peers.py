"""Training steps of ebmtrain and of other tools, side by side: `make bench`.

    python benchmarks/peers.py                              everything, some ten minutes
    python benchmarks/peers.py --batches 128 --sweeps none --tools ebmtrain by_hand floor
    python benchmarks/peers.py --render                     table and plot anew from peers.json

Each tool works in a process of its own (see tools.py), on the same cores, one at a time, by turns:
a round is an epoch of each. What is compared are medians over rounds, and medians of the ratios
within a round. With one thread (the default, as ebmtrain's presets have it) the time is the
processor's, which other programs disturb less than the clock's.

Writes benchmarks/results/peers.json, docs/images/speed.png and the table of docs/performance.md.
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
from dataclasses import asdict, replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
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
SWEPT = ("ebmtrain", "by_hand", "torchebm", "jax", "floor")
LONGEST = 900.0  # seconds that a tool may take for one answer


class Worker:
    """A tool that waits for its turn."""

    def __init__(self, tool: str, setting: Setting, threads: int, cache: str):
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "TORCHINDUCTOR_CACHE_DIR": cache,  # empty at first: the first compilation is measured
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
            self.process.kill()
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
        self.process.wait(timeout=60)
        return peak


def measured(tools: list[str], setting: Setting, rounds: int, threads: int, cache: str) -> list:
    """A row of each tool; one that fails is reported and left out."""
    workers: dict[str, Worker] = {}
    for tool in tools:
        try:
            workers[tool] = Worker(tool, setting, threads, cache)
        except RuntimeError as error:
            print(f"  {tool} {setting}: {error}", flush=True)
    times: dict[str, list[tuple[float, float]]] = {tool: [] for tool in workers}
    for _ in range(rounds):
        for tool, worker in workers.items():
            times[tool].append(worker.turn())
    used = 1 if threads == 1 else 0
    rows = []
    for tool, worker in workers.items():
        mine = [t[used] for t in times[tool]]

        def ratio_to(other: str, mine: list[float] = mine) -> float | None:
            theirs = [t[used] for t in times.get(other, [])]
            return statistics.median(a / b for a, b in zip(mine, theirs)) if theirs else None  # noqa: B905

        rows.append({
            "tool": tool, **asdict(setting),
            "us_per_step": 1e6 * statistics.median(mine),
            "us_per_step_clock": 1e6 * statistics.median(t[0] for t in times[tool]),
            "ratio_to_floor": ratio_to("floor"),
            "ratio_to": {other: ratio_to(other) for other in workers if other != tool},
            "first_epochs_s": worker.ready, "peak_mb": worker.end(),
        })  # fmt: skip
        print(f"  {tool:18} {rows[-1]['us_per_step']:9.0f} us", flush=True)
    return rows


def everything(options: argparse.Namespace) -> dict[str, Any]:
    rows, swept = [], []
    with tempfile.TemporaryDirectory() as cache:
        settings = [replace(BASE, batch=b) for b in options.batches]
        if "dsm" in options.methods:
            settings += [replace(s, method="dsm") for s in settings]
        for s in settings:
            if s.method not in options.methods:
                continue
            print(f"{s.method} B={s.batch}", flush=True)
            tools = [t for t in options.tools if (t, s.method) != ("torchebm_defaults", "dsm")]
            rows += measured(tools, s, options.rounds, options.threads, cache)
        again = None
        if "ebmtrain_compiled" in options.tools and settings:
            try:  # the same once more, which the cache on disk knows by now
                again = Worker("ebmtrain_compiled", settings[0], options.threads, cache)
                again.end()
            except RuntimeError as error:
                print(f"  again: {error}")
    for name in options.sweeps:
        for value in SWEEPS[name]:
            print(f"{name}={value}", flush=True)
            setting = replace(BASE, **{name: value})
            chosen = [t for t in SWEPT if t in options.tools]
            with tempfile.TemporaryDirectory() as cache:
                found = measured(chosen, setting, 3, options.threads, cache)
            swept += [{**row, "swept": name} for row in found]
    return {
        "date": str(date.today()), "machine": processor(), "threads": options.threads,
        "rounds": options.rounds, "versions": versions(),
        "first_epochs_cached_s": None if again is None else again.ready,
        "rows": rows, "sweeps": swept,
    }  # fmt: skip


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
    return "\n".join(lines)


def plot(results: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["swept"] for row in results["sweeps"]))
    if not names:
        return
    figure = Figure(figsize=(3.6 * len(names), 3.4), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    colours = dict(zip(SWEPT, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"), strict=True))
    for ax, name in zip(axes, names, strict=True):
        for tool in SWEPT:
            mine = [r for r in results["sweeps"] if r["swept"] == name and r["tool"] == tool]
            x, y = [r[name] for r in mine], [r["us_per_step"] for r in mine]
            ax.loglog(x, y, "--" if tool == "floor" else "o-", color=colours[tool], label=tool)
        ax.set_xlabel({"batch": "B", "dim": "dimension"}.get(name, name))
    axes[0].set_ylabel("microseconds per step")
    axes[0].legend(frameon=False, fontsize="small")
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOT, dpi=110)


def render(results: dict[str, Any]) -> None:
    plot(results)
    begin, end = "<!-- table: made by make bench -->\n", "<!-- end of table -->"
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(begin)
    PAGE.write_text(before + begin + table(results) + "\n" + end + rest.split(end)[1], "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--methods", nargs="+", choices=["pcd", "dsm"], default=["pcd", "dsm"])
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 256, 1024])
    parser.add_argument("--sweeps", nargs="+", choices=[*SWEEPS, "none"], default=list(SWEEPS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: the table's own")
    options = parser.parse_args()
    options.sweeps = [name for name in options.sweeps if name != "none"]
    if not options.render:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(everything(options), indent=1) + "\n", encoding="utf-8")
    results = json.loads(options.out.read_text(encoding="utf-8"))
    print(table(results))
    if options.out == RESULTS:
        render(results)


if __name__ == "__main__":
    main()
