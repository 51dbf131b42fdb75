"""Time to quality: KL(data || model) on five Gaussians against seconds, for several tools.

    python benchmarks/quality.py                        3 seeds, 60 s each: a quarter of an hour
    python benchmarks/quality.py --seeds 1 --seconds 5 --tools ebmtrain by_hand --out some.json
    python benchmarks/quality.py --render               only table and plot, from quality.json

Each run (see quality_run.py) is a separate process with one thread, one after the other; its
seconds begin with the start of the process. For all tools KL is computed by ebmtrain's quadrature
after the training, so no curve includes its time. Run it on an idle machine.

Writes benchmarks/results/quality.json, docs/images/quality.png and the table of
docs/performance.md. With another --out, writes a plot next to that file and no table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import page
from machine import processor, versions

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "quality.json"
PLOT = page.DOCS / "images" / "quality.png"
TOOLS = {
    "ebmtrain": "ebmtrain, its default run", "by_hand": "the tutorials' loop",
    "torchebm": "TorchEBM, as its example has it",
    "torchebm_step": "TorchEBM, the loop's step of 0.01",
}  # fmt: skip
LEVELS = (0.1, 0.05, 0.02)

Run = dict[str, Any]


def run(tool: str, seed: int, seconds: float) -> Run:
    """A curve of (seconds, updates, KL), or the reason why there is none."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
    }
    words = [sys.executable, str(HERE / "quality_run.py"), tool, str(seed), str(seconds)]
    told = subprocess.run(
        [*words, str(time.monotonic())], capture_output=True, text=True, env=environment
    )
    if told.returncode:
        reason = (told.stderr.strip().splitlines() or [f"exit code {told.returncode}"])[-1]
        return {"tool": tool, "seed": seed, "curve": [], "reason": reason}
    return {"tool": tool, "seed": seed, "curve": json.loads(told.stdout), "reason": None}


def everything(tools: list[str], seeds: int, seconds: float) -> dict[str, Any]:
    runs = []
    for seed in range(seeds):
        for tool in tools:
            if tool.startswith("torchebm") and find_spec("torchebm") is None:
                runs.append({"tool": tool, "seed": seed, "curve": [],
                             "reason": "torchebm not installed"})  # fmt: skip
                continue
            runs.append(run(tool, seed, seconds))
            end = runs[-1]["curve"][-1] if runs[-1]["curve"] else runs[-1]["reason"]
            print(f"{tool}, seed {seed}: {end}", flush=True)
    return {
        "date": str(date.today()), "machine": processor(), "seconds": seconds, "seeds": seeds,
        "versions": versions("torch", "torchebm"), "runs": runs,
    }  # fmt: skip


def seconds_to(curve: list[list[Any]], level: float) -> float:
    """Seconds of the first copy with KL <= level; inf if there is none."""
    return next((s for s, _, kl in curve if kl is not None and kl <= level), np.inf)


def curves_of(runs: list[Run], tool: str) -> list[list[list[Any]]]:
    return [one["curve"] for one in runs if one["tool"] == tool and one["curve"]]


def median_and_worst(values: list[float], form: str) -> str:
    def told(value: float) -> str:
        return format(value, form) if np.isfinite(value) else "never"

    middle, worst = statistics.median(values), max(values)
    return told(middle) if len(values) == 1 else f"{told(middle)} ({told(worst)})"


def table(results: dict[str, Any]) -> str:
    words = ", ".join(f"{name} {v}" for name, v in results["versions"].items())
    levels = " | ".join(f"s to KL <= {level}" for level in LEVELS)
    lines = [
        "![KL against seconds](images/quality.png)", "",
        f"{results['date']}, {results['machine']}; 1 thread, {results['seeds']} seed(s), median "
        f"(worst), at most {results['seconds']:g} s; {words}.", "",
        f"| tool | {levels} | KL at the end | end, s | updates |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for tool, label in TOOLS.items():
        curves = curves_of(results["runs"], tool)
        if not curves:
            continue
        reached = [[seconds_to(curve, level) for curve in curves] for level in LEVELS]
        ends = [curve[-1] for curve in curves]
        last = [np.inf if kl is None else kl for _, _, kl in ends]
        cells = [median_and_worst(values, ".1f") for values in reached]
        cells += [median_and_worst(last, ".3g").replace("never", "none")]
        cells += [
            f"{statistics.median(values):.0f}" for values in list(zip(*ends, strict=True))[:2]
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    absent = [f"{r['tool']}, seed {r['seed']} ({r['reason']})"
              for r in results["runs"] if r["reason"] is not None]  # fmt: skip
    if absent:
        lines += ["", f"Without curves: {'; '.join(absent)}."]
    return "\n".join(lines)


def together(curves: list[list[list[Any]]]) -> tuple[np.ndarray, np.ndarray]:
    """Common times of all curves, (t,), and interpolated log10 KL, (curves, t); NaN next to a copy
    without KL."""
    logs = [
        np.array([(np.log10(s), np.nan if kl is None else np.log10(max(kl, 1e-6)))
                  for s, _, kl in curve]) for curve in curves
    ]  # fmt: skip
    low, high = max(log[0, 0] for log in logs), min(log[-1, 0] for log in logs)
    times = np.linspace(low, high, 60)
    return 10**times, np.stack([np.interp(times, *log.T) for log in logs])


def plot(results: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax = figure.subplots()
    for tool, colour in zip(TOOLS, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True):
        curves = curves_of(results["runs"], tool)
        if not curves:
            continue
        times, logs = together(curves)
        ax.plot(times, 10 ** np.median(logs, 0), color=colour, label=TOOLS[tool])
        if len(curves) > 1:
            ax.fill_between(times, 10 ** logs.min(0), 10 ** logs.max(0), color=colour, alpha=0.2,
                            linewidth=0)  # fmt: skip
    for level in LEVELS:
        ax.axhline(level, color="#999999", linewidth=0.6, linestyle=":")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(1e-3, 1e2)
    ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.set_xticks([t for t in (1, 2, 5, 10, 20, 50, 100, 200) if t <= 1.1 * results["seconds"]])
    ax.minorticks_off()
    ax.set_xlabel("seconds since the start of the process")
    ax.set_ylabel("KL(data || model), nats")
    ax.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="at most, of each run")
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not options.render:
        found = everything(options.tools, options.seeds, options.seconds)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found) + "\n", encoding="utf-8")
    results = json.loads(options.out.read_text(encoding="utf-8"))
    print(table(results))
    official = options.out.resolve() == RESULTS
    plot(results, PLOT if official else options.out.with_suffix(".png"))
    if official:
        page.put("quality", table(results))


if __name__ == "__main__":
    main()
