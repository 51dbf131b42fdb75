"""CPU seconds of a sweep of many jobs: until it is planned, until its first job starts, its report.

    python benchmarks/sweep_size.py [--jobs 1000]

The report is of copies of one short run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch  # whose import belongs to no job
import yaml

from ebmtrain.cli import train
from ebmtrain.cli.main import main as ebmtrain
from ebmtrain.cli.multirun import Sweep
from ebmtrain.runs.report.write import report

SHORT = (
    "train.steps=20", "plots.every=0", "samples.count=50", "evaluation.resolution=64",
    "evaluation.tolerance=1", "quality.points=50", "diagnostics.chains=4", "diagnostics.draws=8",
    "dataset.n_train=200", "dataset.n_holdout=200", "device.threads=1",
)  # fmt: skip


class FirstJob(KeyboardInterrupt):
    """The first job starts."""


def start(n_jobs: int) -> tuple[float, float]:
    """CPU seconds until the folder of the sweep is written, and from then to its first job."""
    times = [time.process_time()]
    keep, run_job = Sweep.keep_presets, train.run_job

    def planned(*arguments: Any) -> Any:
        times.append(time.process_time())
        return keep(*arguments)

    def started(*_: Any, **__: Any) -> None:
        times.append(time.process_time())
        raise FirstJob

    Sweep.keep_presets, train.run_job = planned, started  # type: ignore[method-assign]
    words = ["-m", *SHORT, f"seed=range({n_jobs // 2})", "optimizer.lr=0.01,0.001"]
    ebmtrain([*words, "hydra.sweep.dir=started"])
    Sweep.keep_presets, train.run_job = keep, run_job  # type: ignore[method-assign]
    return times[1] - times[0], times[2] - times[1]


def write_report(n_jobs: int) -> float:
    """CPU seconds of the report on copies of one run."""
    ebmtrain([*SHORT, "hydra.run.dir=run"])
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    for i in range(n_jobs):
        copy = Path(f"sweep/{i}_seed={i // 2}")
        shutil.copytree("run", copy, ignore=shutil.ignore_patterns("*.pt", "*.npz"))
        config["seed"], config["optimizer"]["lr"] = i // 2, (0.01, 0.001)[i % 2]
        (copy / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    began = time.process_time()
    report(Path("sweep"))
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    n_jobs = parser.parse_args().jobs
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        planned, started = start(n_jobs)
        reported = write_report(n_jobs)
    print(f"| jobs | {n_jobs:,} |\n|---|---:|")
    print(f"| planned, checked | {planned:.2f} s |")
    print(f"| presets and manifest written, first job starts | {started:.2f} s |")
    print(f"| report | {reported:.1f} s |")


if __name__ == "__main__":
    main()
