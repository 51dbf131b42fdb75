"""What the tool costs beside the training: start, display, memory.

    python benchmarks/limits.py

start    wall clock of `ebmtrain --cfg job`, of `ebmtrain -h`, and from the start of the process to
         the first update of the default run; medians of 5
display  share of the training time that bar, log and metrics take: the default run on a
         pseudo-terminal against the bare updates of the same configuration, in turn, median of 5
memory   resident memory of a run of 20,000 steps after 2,000, 11,000 and 20,000 of them
"""

from __future__ import annotations

import os
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from ebmtrain import presets
from ebmtrain.build import Parts, build
from ebmtrain.run import begin
from ebmtrain.train import start, update

TINY = ["plots.gif=false", "samples.count=100", "samples.chains=100", "samples.burn_in=0"]
NEVER = ["evaluation.every=1000000", "plots.every=1000000", "checkpoint.every=1000000"]


def parts_of(words: list[str]) -> Parts:
    presets.prepare(None)
    return build(presets.plain(presets.composed([*words, *TINY, *NEVER])))


def seconds_of(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "ebmtrain.cli", *words], capture_output=True, check=True)
    return time.perf_counter() - began


def start_up() -> None:
    for name, words in (("--cfg job", ["--cfg", "job"]), ("-h", ["-h"])):
        print(f"start    {name:12} {median(lambda w=words: seconds_of(*w)):.2f} s")
    code = (
        "from ebmtrain import presets; presets.prepare(None);"
        "from ebmtrain.build import build; from ebmtrain.train import start, update;"
        "p = build(presets.plain(presets.composed([])));"
        "update(p.job, start(p.job, p.energy, p.generator('train')))"
    )

    def first_step() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    print(f"start    {'first step':12} {median(first_step):.2f} s")


def median(measure) -> float:
    return statistics.median(measure() for _ in range(5))


def display() -> None:
    n_steps = 1000
    words = [f"train.steps={n_steps}"]
    shares = []
    for _ in range(5):
        parts = parts_of(words)
        assert parts.job is not None
        state = start(parts.job, parts.energy, parts.generator("train"))
        for _ in range(n_steps // 5):
            update(parts.job, state)
        began = time.perf_counter()
        for _ in range(n_steps - n_steps // 5):
            update(parts.job, state)
        bare = time.perf_counter() - began
        shares.append(on_terminal(words, n_steps) / bare - 1)
    print(f"display  {statistics.median(shares):+.1%} of the training time ({n_steps} steps)")


def on_terminal(words: list[str], n_steps: int) -> float:
    """Seconds of the last four fifths of the same updates, with bar, log and metrics."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        reader, writer = pty.openpty()
        command = [sys.executable, "-m", "ebmtrain.cli", *words, *TINY, *NEVER]
        process = subprocess.Popen(
            [*command, f"hydra.run.dir={out}"], stdout=writer, stderr=writer, cwd=folder,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "160"},
        )  # fmt: skip
        os.close(writer)
        drain = threading.Thread(target=read_all, args=(reader,), daemon=True)
        drain.start()
        process.wait()
        from ebmtrain.rundir import RunDir

        rows = {row["step"]: row["seconds"] for row in RunDir(out).rows()}
    # The last row comes after the last evaluation: up to the row before it, and scaled.
    first, last = n_steps // 5, n_steps - 100
    return (rows[last] - rows[first]) * (n_steps - first) / (last - first)


def read_all(descriptor: int) -> None:
    try:
        while os.read(descriptor, 65536):
            pass
    except OSError:  # the other end closed
        pass


def memory() -> None:
    seen: dict[int, float] = {}
    words = ["train.steps=20000", "model.width=32", "model.fourier_features=8", "method.k=2",
             "train.batch_size=64", "method.slots=256"]  # fmt: skip
    parts = parts_of(words)

    def watch(path: Path) -> None:
        from ebmtrain.rundir import RunDir

        while 20_000 not in seen:
            time.sleep(0.2)
            rows = RunDir(path).rows()
            step = rows[-1]["step"] if rows else 0
            for mark in (2_000, 11_000, 20_000):
                if step >= mark and mark not in seen:
                    seen[mark] = resident()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        watcher = threading.Thread(target=watch, args=(path,))
        watcher.start()
        begin(parts, path, {}, quiet=True)
        watcher.join()
    print("memory   " + ", ".join(f"{mb:.1f} MiB at {step:,}" for step, mb in sorted(seen.items())))


def resident() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    start_up()
    display()
    memory()
