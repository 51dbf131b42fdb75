"""All methods on all toy sets, and the reference results: writes docs/results.md and results.csv.

    python benchmarks/table.py                          missing rows; about two hours
    python benchmarks/table.py --section reference      only this section of the document
    python benchmarks/table.py --method pcd --dataset moons     only these rows
    python benchmarks/table.py --method ed --again      measure rows again and replace them
    python benchmarks/table.py --render                 the tables from docs/results.csv, no runs

Each row is one `ebmtrain` command in a separate process with one thread; `--jobs` of them run in
parallel. A row is saved as soon as it is measured. A row with the same command and seed is not
measured again, so a table can be made in several calls.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results.csv"
EASY = ("moons", "circles", "rings", "8gaussians", "pinwheel")
HARD = ("25gaussians", "checkerboard", "2spirals", "swissroll")
ALL = ("five_gaussians", *EASY, *HARD)
OTHERS = (
    "cd", "sm", "ssm", "dsm", "nce", "cnce", "ed", "jarzynski", "improved_cd", "fd_ssm",
    "multi_dsm", "ksd", "dual",
)  # fmt: skip
METRICS = ("kl", "regret", "nll", "log_density_mse")
FIELDS: tuple[str, ...] = (
    "method", "dataset", "words", "seed", "status", *METRICS, "steps", "seconds_to_kl",
    "seconds", "cpu_seconds", "measured", "torch",
)  # fmt: skip
Row = dict[str, str]


class Job(NamedTuple):
    method: str
    dataset: str
    words: str
    seed: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the measurement."""
        return self.words, str(self.seed)


def methods() -> list[Job]:
    rows = [Job("pcd", "five_gaussians", "", seed) for seed in range(5)]
    rows += [Job("pcd", d, f"dataset={d}", seed) for d in EASY for seed in range(3)]
    rows += [Job("pcd", d, f"experiment=pcd_{d}", seed) for d in HARD for seed in range(3)]
    for method in OTHERS:
        model = " model=noise_conditional_mlp" if method == "multi_dsm" else ""
        rows += [Job(method, d, f"method={method}{model} dataset={d}") for d in ALL]
    return rows


def sampler_free() -> list[Job]:
    five = ("method=ed train.steps=1000", "method=nce method.noise=kernel train.steps=750")
    rows = [Job(words[7:].split()[0], "five_gaussians", words) for words in five]
    for d in (*EASY, *HARD):
        best = f"experiment=ed_{d}" if d == "checkerboard" else f"method=ed dataset={d}"
        rows.append(Job("ed", d, best))
    return rows


def reference() -> list[Job]:
    return [Job(m, "25gaussians", f"experiment=reference_25gaussians_{m}") for m in ("ed", "pcd")]


SECTIONS = {"methods": methods, "sampler-free": sampler_free, "reference": reference}


def run(job: Job) -> Row:
    """Runs the command and reads its result.json.

    Raises:
        RuntimeError: the command ended before training started.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [
            sys.executable, "-m", "ebmtrain.cli.main", *shlex.split(job.words), f"seed={job.seed}",
            "device.threads=1", f"hydra.run.dir={out}",
        ]  # fmt: skip
        with (Path(folder) / "said").open("w+", encoding="utf-8") as said:
            process = subprocess.Popen(
                command, stdout=said, stderr=said, cwd=folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            _, status, used = os.wait4(process.pid, 0)  # of this child alone
            process.returncode = os.waitstatus_to_exitcode(status)
            if not (out / "result.json").exists():
                said.seek(0)
                raise RuntimeError(f"ebmtrain {job.words}: {said.read()}")
        result = json.loads((out / "result.json").read_text())
        to_kl = seconds_to_kl(out / "metrics.jsonl")
    values = (
        *job, result["status"], *(result["metrics"].get(m, "") for m in METRICS), result["step"],
        to_kl, result["seconds"], round(used.ru_utime + used.ru_stime, 1), date.today(),
        torch.__version__,
    )  # fmt: skip
    row = dict(zip(FIELDS, map(str, values), strict=True))
    print(*row.values(), flush=True)
    return row


def seconds_to_kl(metrics: Path) -> float | str:
    """From the start of the run to its last KL. Includes the training, evaluations and plots up to
    then, and not those afterwards."""
    rows = map(json.loads, metrics.read_text().splitlines())
    return next((row["seconds"] for row in reversed([*rows]) if "kl" in row), "")


def measured(chosen: Iterable[Job], rows: Sequence[Row], n_jobs: int) -> list[Row]:
    """`rows`, with the rows of the `chosen` commands replaced or added; each is saved at once."""
    kept = {(r["words"], r["seed"]): r for r in rows}
    with ThreadPoolExecutor(n_jobs) as pool:
        futures = {pool.submit(run, job): job for job in chosen}
        try:
            for future in as_completed(futures):
                kept[futures[future].key] = future.result()
                save(kept.values())
        finally:
            pool.shutdown(cancel_futures=True)
    return list(kept.values())


def save(rows: Iterable[Row]) -> None:
    beside = RESULTS.with_suffix(".tmp")
    with beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    beside.replace(RESULTS)


def groups(jobs: Iterable[Job], rows: Sequence[Row]) -> list[tuple[Job, list[Row]]]:
    """The measured rows of the jobs, grouped by command over seeds, in the order of the jobs."""
    found: dict[str, tuple[Job, list[Row]]] = {}
    by_key = {(r["words"], r["seed"]): r for r in rows}
    for job in jobs:
        if job.key in by_key:
            found.setdefault(job.words, (job, []))[1].append(by_key[job.key])
    return list(found.values())


def table(jobs: Iterable[Job], rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """Markdown: median and worst of each metric over the seeds, steps and seconds."""
    titles = " | ".join(f"{name} median (worst)" for name in metrics)
    lines = [
        f"| method | dataset | command | seeds | {titles} | steps | seconds to KL | seconds "
        "| CPU seconds |",
        "|---" * (8 + len(metrics)) + "|",
    ]
    for job, group in groups(jobs, rows):
        columns = [numbers(group, name.lower()) for name in metrics]
        bad = [r["status"] for r in group if r["status"] != "finished"]
        cells = [
            job.method, job.dataset, f"`ebmtrain {job.words}`".replace(" `", "`"), len(group),
            *map(spread, columns), group[0]["steps"], typical(numbers(group, "seconds_to_kl")),
            " ".join([typical(numbers(group, "seconds")), ", ".join(bad)]).strip(),
            typical(numbers(group, "cpu_seconds")),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def numbers(group: Iterable[Row], field: str) -> list[float]:
    return [float(r[field]) for r in group if r.get(field)]


def spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.4f}" if values else ""
    return f"{statistics.median(values):.4f} ({max(values):.4f})"


def typical(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f}" if values else ""


def render(rows: Sequence[Row]) -> str:
    days = sorted({r["measured"] for r in rows})
    versions = " and ".join(sorted({r["torch"] for r in rows}))
    return f"""# Results

Written by `python benchmarks/table.py` from {days[0]} to {days[-1]} on two shared cores, torch
{versions}, one CPU thread per run. All values are in nats, for the evaluated (averaged) weights at
the last step. KL(data || model) is exact, by quadrature. Regret is the NLL of 20,000 held-out
points minus the entropy of the data, so it has the sampling error of these points (about 0.007).
"seconds" is wall-clock time and depends on the load of the machine; "seconds to KL" is the time
until the last KL was known, including evaluations and plots up to then. "CPU seconds" is the CPU
time of the whole process, from its start to the last plot. Empty cells were not measured. The date
of each row is in [results.csv](results.csv).

KL on the checkerboard in rows measured before 2026-11-30, which are all but that of
`experiment=pcd_checkerboard`, is from a uniform grid, too coarse for the edges of the squares: it
is 0.005 to 0.01 too low. KL is now computed by
[an adaptive rule](evaluation.md#kl-of-narrow-densities). Regret does not depend on that grid.

## Methods

The default settings of each method, and pcd with the presets of the README. Score matching (sm,
ssm, fd_ssm, dsm, multi_dsm, ksd) does not determine the weights of separated modes, and dsm learns
the data convolved with noise. Their rows show these properties of the objectives and not failures
of the optimizer.

{table(methods(), rows, ("KL", "regret"))}

## Sampler-free

Methods that train without chains and learn a density. Other settings that were tried:
[negative.md](negative.md).

{table(sampler_free(), rows, ("KL", "regret"))}

## Reference

25 Gaussians with the network, optimizer, batch size and number of updates of Schroeder et al.
(NeurIPS 2023). log_density_mse is the mean squared error of log p at 5,000 data points. The paper
reports about 0.02 for energy discrepancy, 0.6 for cd and 3.6 for sm.

{table(reference(), rows, ("log_density_mse", "KL"))}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--section", choices=SECTIONS, help="only this one")
    parser.add_argument("--method", help="only this one")
    parser.add_argument("--dataset", help="only this one")
    parser.add_argument("--again", action="store_true", help="measure existing rows again")
    parser.add_argument("--jobs", type=int, default=2, help="runs in parallel (2)")
    parser.add_argument("--render", action="store_true", help="make no runs")
    options = parser.parse_args()
    rows = list(csv.DictReader(RESULTS.open(encoding="utf-8"))) if RESULTS.exists() else []
    if not options.render:
        there = set() if options.again else {(r["words"], r["seed"]) for r in rows}
        jobs = [j for name, s in SECTIONS.items() if options.section in (None, name) for j in s()]
        chosen = [
            job for job in dict.fromkeys(jobs)
            if options.method in (None, job.method)
            and options.dataset in (None, job.dataset)
            and job.key not in there
        ]  # fmt: skip
        rows = measured(chosen, rows, options.jobs)
    (ROOT / "docs" / "results.md").write_text(render(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
