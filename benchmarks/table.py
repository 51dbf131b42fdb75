"""All methods on all toy sets: writes docs/results.md and docs/results.csv.

    python benchmarks/table.py                     everything, about an hour on two cores
    python benchmarks/table.py --method pcd --dataset moons     only these; other rows are kept
    python benchmarks/table.py --render            the tables anew from docs/results.csv

Each row is one `ebmtrain` command, as anyone would type it, in a process of its own with one
thread; two run side by side. KL and regret are read from result.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results.csv"
EASY = ("moons", "circles", "rings", "8gaussians", "pinwheel")
HARD = ("25gaussians", "checkerboard", "2spirals", "swissroll")
ALL = ("five_gaussians", *EASY, *HARD)
FIELDS = ("method", "dataset", "words", "seed", "status", "kl", "regret", "nll", "steps", "seconds")


def jobs() -> list[tuple[str, str, str, int]]:
    """(method, dataset, words, seed) of every row."""
    rows = [("pcd", "five_gaussians", "", seed) for seed in range(5)]
    rows += [("pcd", d, f"dataset={d}", seed) for d in EASY for seed in range(3)]
    rows += [("pcd", d, f"experiment=pcd_{d}", seed) for d in HARD for seed in range(3)]
    for method in ("cd", "sm", "ssm", "dsm"):
        rows += [(method, d, f"method={method} dataset={d}", 0) for d in ALL]
    return rows


def run(job: tuple[str, str, str, int]) -> dict[str, object]:
    method, dataset, words, seed = job
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [
            sys.executable, "-m", "ebmtrain.cli", *shlex.split(words), f"seed={seed}",
            "device.threads=1", f"hydra.run.dir={out}",
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, capture_output=True, check=False, env=environment, cwd=folder)
        result = json.loads((out / "result.json").read_text())
    metrics = result["metrics"]
    row = dict(
        zip(FIELDS, (method, dataset, words, seed, result["status"], *(metrics.get(m) for m in
        ("kl", "regret", "nll")), result["step"], result["seconds"]), strict=True)
    )  # fmt: skip
    print(*row.values(), flush=True)
    return row


def table(rows: list[dict[str, str]]) -> str:
    """Markdown: median and worst KL and regret over the seeds, seconds and steps."""
    lines = [
        "| method | dataset | command | seeds | KL median (worst) | regret median (worst) | steps |"
        " seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(job[0] for job in jobs()):
        for dataset in ALL:
            group = [r for r in rows if (r["method"], r["dataset"]) == (method, dataset)]
            if not group:
                continue
            kl, regret, seconds = (
                [float(r[k]) for r in group if r[k]] for k in ("kl", "regret", "seconds")
            )
            command = f"`ebmtrain {group[0]['words']}`".replace(" `", "`")
            bad = [r["status"] for r in group if r["status"] != "finished"]
            lines.append(
                f"| {method} | {dataset} | {command} | {len(group)} | {spread(kl)} |"
                f" {spread(regret)} | {group[0]['steps']} |"
                f" {statistics.median(seconds):.0f}{' ' + ', '.join(bad) if bad else ''} |"
            )
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.4f}" if values else ""
    return f"{statistics.median(values):.4f} ({max(values):.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", help="only this one; the rows of the others are kept")
    parser.add_argument("--dataset", help="likewise")
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, str]] = []
    if RESULTS.exists():
        rows = list(csv.DictReader(RESULTS.open(encoding="utf-8")))

    def wanted(method: str, dataset: str) -> bool:
        return options.method in (None, method) and options.dataset in (None, dataset)

    if not options.render:
        chosen = [job for job in jobs() if wanted(job[0], job[1])]
        with ThreadPoolExecutor(2) as pool:
            new = [{k: "" if v is None else str(v) for k, v in r.items()}
                   for r in pool.map(run, chosen)]  # fmt: skip
        rows = [r for r in rows if not wanted(r["method"], r["dataset"])] + new
        with RESULTS.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    (ROOT / "docs" / "results.md").write_text(
        "# Results\n\n"
        f"Made by `python benchmarks/table.py` on {date.today()}: torch {torch.__version__}, "
        f"Python {platform.python_version()}, one CPU thread a run, two runs side by side. Every"
        " number is in nats and of the evaluated weights (the average) at the last step. KL(data ||"
        " model) is exact, by quadrature; regret is the NLL of 20,000 held-out points minus the"
        " entropy of the data, so it carries their sampling error (about 0.007).\n\n"
        "Score matching (sm, ssm, dsm) is blind to the weights of separated modes, and dsm learns a"
        " blurred density: their rows show that, they are not failures of the optimizer.\n\n"
        + table(rows)
        + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
