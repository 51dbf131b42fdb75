"""Overhead of the tool in addition to the training: start-up, console, memory.

    python benchmarks/limits.py

start    wall-clock time of `ebmtrain --cfg job`, of `ebmtrain -h`, and from the start of the
         process to the first update of the default run, compared with a minimal program with torch
         and one of its optimizers; medians of 5
display  CPU time of progress bar, log and metrics, in all threads, as a fraction of the training's:
         the default training on a pseudo-terminal, in alternating blocks of 100 updates with and
         without them, median over pairs
memory   resident memory of a run of 20,000 steps after 2,000, 11,000 and 19,000 steps (before the
         last evaluation)
"""

from __future__ import annotations

import json
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

from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.config.experiment import Experiment
from ebmtrain.runs.launch import run_experiment
from ebmtrain.runs.loggers.console import RunConsole
from ebmtrain.runs.session import Session
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.training.loop import collect_metrics, run_callbacks, run_step
from ebmtrain.training.state import initial_state

TINY = ["plots.gif=false", "samples.count=100", "samples.chains=100", "samples.burn_in=0"]
NEVER = [
    f"{what}.every=1000000"
    for what in ("evaluation", "quality", "diagnostics", "plots", "checkpoint")
]


def build_experiment(words: list[str]) -> Experiment:
    config = presets.to_plain(presets.compose_config([*words, *TINY, *NEVER]))
    return build(config, set_up_process=True)


def seconds_of(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "ebmtrain.cli.main", *words], capture_output=True, check=True
    )
    return time.perf_counter() - began


def start_up() -> None:
    for name, words in (("--cfg job", ["--cfg", "job"]), ("-h", ["-h"])):
        print(f"start    {name:12} {median(lambda w=words: seconds_of(*w)):.2f} s")
    codes = {
        "first step": "from ebmtrain.config import presets;"
        "from ebmtrain.config.build import build;"
        "from ebmtrain.training.loop import run_step;"
        "from ebmtrain.training.state import initial_state;"
        "c = presets.to_plain(presets.compose_config([]));"
        "p = build(c, set_up_process=True);"
        "run_step(p.train_spec, initial_state(p.train_spec, p.energy, p.generator('train')))",
        "torch alone": "import torch; x = torch.zeros(1, requires_grad=True);"
        "o = torch.optim.Adam([x]); x.sum().backward(); o.step()",
    }

    def seconds_to_run(code: str) -> float:
        began, code = time.monotonic(), code + "; import time; print(time.monotonic())"
        told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        return float(told.stdout) - began  # one clock for all processes

    for name, code in codes.items():
        print(f"start    {name:12} {median(lambda c=code: seconds_to_run(c)):.2f} s")


def median(measure) -> float:
    return statistics.median(measure() for _ in range(5))


def display() -> None:
    """Runs this file on a pseudo-terminal: see `blocks`."""
    with tempfile.TemporaryDirectory() as folder:
        reader, writer = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, __file__, "--blocks", folder], stdout=writer, stderr=writer,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "160"},
        )  # fmt: skip
        os.close(writer)
        drain = threading.Thread(target=read_all, args=(reader,), daemon=True)
        drain.start()
        process.wait()
        shares = json.loads((Path(folder) / "shares.json").read_text())
    low, middle, high = (statistics.quantiles(shares, n=4)[i] for i in range(3))
    print(f"display  {middle:+.1%} of the training time (median of {len(shares)} pairs of blocks, "
          f"quartiles {low:+.1%} {high:+.1%})")  # fmt: skip


def blocks(folder: Path) -> None:
    """The default training in alternating blocks of 100 updates, without and with bar, log and
    metrics. Each pair gives one ratio, so that a slow minute of the machine affects both."""
    experiment = build_experiment([])
    spec = experiment.train_spec
    assert spec is not None
    state = initial_state(spec, experiment.energy, experiment.generator("train"))
    run = RunDir.create(folder / "run", experiment.config, {})

    def processor_time(shown: bool) -> float:
        began = time.process_time()
        for _ in range(100):
            metrics = run_step(spec, state)
            if shown:
                run_callbacks(
                    state, session, collect_metrics(spec, state, metrics, last=False), last=False
                )
        return time.process_time() - began

    shares = []
    with RunConsole(run.path / "run.log", n_steps=spec.n_steps) as shown:
        assert shown.progress is not None, "no terminal"
        session = Session(experiment, run, shown, "display")
        for _ in range(spec.n_steps // 200):
            shown.progress.stop()
            bare = processor_time(False)
            shown.progress.start()
            shares.append(processor_time(True) / bare - 1)
    (folder / "shares.json").write_text(json.dumps(shares[1:]))  # the first block warms up


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
    experiment = build_experiment(words)

    def watch(path: Path) -> None:
        while 19_000 not in seen:
            time.sleep(0.2)
            rows = RunDir(path).rows()
            step = rows[-1]["step"] if rows else 0
            for mark in (2_000, 11_000, 19_000):
                if step >= mark and mark not in seen:
                    seen[mark] = resident()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        watcher = threading.Thread(target=watch, args=(path,))
        watcher.start()
        run_experiment(experiment, path, {}, quiet=True)
        watcher.join()
    print("memory   " + ", ".join(f"{mb:.1f} MiB at {step:,}" for step, mb in sorted(seen.items())))


def resident() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    if sys.argv[1:2] == ["--blocks"]:
        blocks(Path(sys.argv[2]))
        sys.exit()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    start_up()
    display()
    memory()
