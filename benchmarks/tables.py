"""NLL of the table presets and of two baselines: writes docs/tables.md and docs/tables.csv.

    python benchmarks/tables.py --seeds 5      about 15 minutes of one idle core
    python benchmarks/tables.py --render       only the table, from docs/tables.csv

Each row is one `ebmtrain experiment=NAME seed=S` in a separate process with one thread. The seed
determines the split as well as the weights. All numbers are from result.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "docs" / "tables.csv"
PAGE = ROOT / "docs" / "tables.md"
BEGIN, END = "<!-- nll: begin -->", "<!-- nll: end -->"
NAMES = ("wine", "breast_cancer")
METRICS = (
    "nll", "nll_se", "nll_lower", "nll_upper", "peer_nll_kde", "peer_nll_gmm",
    "gain_over_kde", "gain_over_kde_se", "gain_over_gmm", "gain_over_gmm_se",
)  # fmt: skip
FIELDS = ("experiment", "seed", "status", *METRICS, "cpu_seconds")


def run(name: str, seed: int) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "ebmtrain.cli.main", f"experiment={name}", f"seed={seed}",
            "device.threads=1", f"hydra.run.dir={folder}/run",
        ]  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, capture_output=True, check=False, env=environment, cwd=folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = json.loads((Path(folder) / "run" / "result.json").read_text())
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    numbers = [f"{result['metrics'].get(m, math.nan):.4f}" for m in METRICS]
    values = [name, str(seed), result["status"], *numbers, f"{seconds:.0f}"]
    print(*values, flush=True)
    return dict(zip(FIELDS, values, strict=True))


def table(rows: list[dict[str, str]]) -> str:
    """Markdown: a row for each split, and the means of each preset over its splits."""
    lines = [
        "| command | NLL (interval of log Z) | KDE | GaussianMixture | gain over KDE |"
        " gain over GaussianMixture | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in NAMES:
        group = [row for row in rows if row["experiment"] == name]
        for r in group:
            x = {metric: f"{float(r[metric]):.2f}" for metric in METRICS}
            lines.append(
                f"| `ebmtrain experiment={name} seed={r['seed']}` | {x['nll']}"
                f" ({x['nll_lower']} to {x['nll_upper']}) | {x['peer_nll_kde']} |"
                f" {x['peer_nll_gmm']} | {x['gain_over_kde']} ± {x['gain_over_kde_se']} |"
                f" {x['gain_over_gmm']} ± {x['gain_over_gmm_se']} | {r['cpu_seconds']} |"
            )
        if len(group) > 1:
            means = {m: statistics.mean(float(r[m]) for r in group) for m in METRICS}
            shown = [f"{means[m]:.2f}" for m in ("nll", "peer_nll_kde", "peer_nll_gmm")]
            gains = [over_splits(group, f"gain_over_{peer}") for peer in ("kde", "gmm")]
            lines.append(f"| **{name}, {len(group)} splits** | {' | '.join([*shown, *gains])} | |")
    return "\n".join(lines)


def over_splits(group: list[dict[str, str]], metric: str) -> str:
    """Mean, its standard error over the splits, and the number of splits where it is positive."""
    values = [float(row[metric]) for row in group]
    error = statistics.stdev(values) / math.sqrt(len(values))
    won = sum(value > 0 for value in values)
    return f"{statistics.mean(values):.2f} ± {error:.2f}, on {won} of {len(values)}"


def write(rows: list[dict[str, str]]) -> None:
    with ROWS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    if options.render:
        write(list(csv.DictReader(ROWS.open(encoding="utf-8"))))
        return
    rows: list[dict[str, str]] = []
    for seed in range(options.seeds):
        rows += [run(name, seed) for name in NAMES]
        write(sorted(rows, key=lambda row: (NAMES.index(row["experiment"]), int(row["seed"]))))


if __name__ == "__main__":
    main()
