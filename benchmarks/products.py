"""Float32 matrix products with MKL and with oneDNN, and updates with either: see docs/adr/0013.

    python benchmarks/products.py
    python benchmarks/products.py seed=0 method=ed train.batch_size=1024    # only these updates

Applies to processors for which `ebmtrain.runtime.matmul` has a choice. Alternating blocks in one
process, one thread, medians of 9 blocks.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from limits import build_experiment

from ebmtrain.runtime.matmul import CPUINFO, onednn_is_faster
from ebmtrain.training.loop import run_step
from ebmtrain.training.state import initial_state

KINDS = {"ieee": "MKL", "bf16": "oneDNN"}
UPDATES = (
    "seed=0", "method=dsm", "method=ed", "method=nce", "sampler=langevin", "sampler=hmc",
    "train.batch_size=128", "train.batch_size=1024",
)  # fmt: skip


def seconds(act: Callable[[], object], count: int) -> dict[str, float]:
    """Median seconds of one call of `act`, with each library."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(10):  # the first block warms up
        for kind, times in found.items():
            torch.backends.mkldnn.matmul.fp32_precision = kind  # type: ignore[attr-defined]
            began = time.perf_counter()
            for _ in range(count):
                act()
            times.append((time.perf_counter() - began) / count)
    return {kind: statistics.median(times[1:]) for kind, times in found.items()}


def main() -> None:
    torch.set_num_threads(1)
    if not onednn_is_faster(CPUINFO.read_text() if CPUINFO.exists() else ""):
        print("no choice on this processor: the column oneDNN may round to bfloat16")
    width = 128
    for rows in () if sys.argv[1:] else (64, 128, 256, 1024):
        a, b = torch.randn(rows, width), torch.randn(width, width)
        found = seconds(lambda a=a, b=b: a @ b, 1000)
        rates = (f"{KINDS[k]} {2 * rows * width**2 / t / 1e9:.0f}" for k, t in found.items())
        print(f"({rows}, {width}) @ ({width}, {width}), Gflop/s: {', '.join(rates)}", flush=True)
    for words in sys.argv[1:] or UPDATES:
        experiment = build_experiment(words.split())
        spec = experiment.train_spec
        assert spec is not None
        state = initial_state(spec, experiment.energy, experiment.generator("train"))
        found = seconds(lambda spec=spec, state=state: run_step(spec, state), 20)
        times = ", ".join(f"{KINDS[k]} {1e3 * t:.2f}" for k, t in found.items())
        ratio = found["bf16"] / found["ieee"]
        print(f"{words}, ms an update: {times}, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
