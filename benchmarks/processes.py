"""Time of an update in one process and in several: the table of docs/scale.md.

    python benchmarks/processes.py [key=value ...]

Each row is a run of its own, as a user types it. The time is the least of its windows of 25
updates: other programs on the machine can only add to it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

STEPS, WINDOW = 400, 25
WORDS = (
    f"train.steps={STEPS}", f"train.log_every={WINDOW}", "checkpoint.every=100000", "plots.every=0",
    "evaluation.every=100000", "evaluation.resolution=32", "evaluation.tolerance=1",
    "samples.count=100", "samples.chains=100", "samples.burn_in=10", "quality.points=50",
    "quality.shuffles=4", "diagnostics.draws=8", "diagnostics.chains=4", "device=cpu",
)  # fmt: skip


def ms_per_update(processes: int, words: list[str], folder: Path) -> float:
    """The least time of a window, per update."""
    start = ["-m", "ebmtrain"]
    if processes > 1:
        start = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", *start]
    run = folder / f"{processes}_{len(list(folder.iterdir()))}"
    command = [sys.executable, *start, *WORDS, *words, f"hydra.run.dir={run}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if 0 < row["step"] < STEPS]  # the last one has the evaluation
    return min(1e3 * (b["seconds"] - a["seconds"]) / WINDOW for a, b in pairwise(rows))


def main() -> None:
    words = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = ms_per_update(1, words, folder)
        shards = ms_per_update(1, [*words, "train.shards=2"], folder)
        two = ms_per_update(2, words, folder)
        twice = ms_per_update(2, [*words, "train.batch_size=512"], folder)
    print(f"{'processes':>9} {'shards':>6} {'batch':>6} {'ms an update':>12}")
    rows = ((1, 1, 256, one), (1, 2, 256, shards), (2, 2, 256, two), (2, 2, 512, twice))
    for processes, parts, batch, ms in rows:
        print(f"{processes:9} {parts:6} {batch:6} {ms:12.2f}")
    print(f"two processes: {two / one:.2f} of the time; weak efficiency {one / twice:.0%}")


if __name__ == "__main__":
    main()
