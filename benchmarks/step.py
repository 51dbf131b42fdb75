"""One PCD-10 training step against the loop that one would write by hand.

    python benchmarks/step.py

Both do the same work: ULA with k = 10 from B persistent chains, network 2-128-128-1 with LeakyReLU,
one Adam update on B positives and B negatives (see tools.py). Rounds, of an epoch each, are
interleaved in one process; what is printed is the median time of each and the median of the ratios
round by round (below 1: ebmtrain is faster). ebmtrain's step is the one of its loop, with gradient
norm, divergence flag and weight average. Other tools, compiled ones too: peers.py.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from tools import Epoch, Setting, by_hand, ebmtrain


def time_of(epoch: Epoch, n_steps: int) -> float:
    began = time.perf_counter()
    epoch()
    return (time.perf_counter() - began) / n_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds")
    print("    B   ebmtrain us   by hand us   ratio (median of rounds)")
    for batch in (128, 256, 1024):
        setting = Setting("pcd", batch, 128, 2, 10)
        ours, theirs = ebmtrain(setting), by_hand(setting)
        ours(), theirs()
        pairs = [
            (time_of(ours, setting.steps), time_of(theirs, setting.steps))
            for _ in range(options.rounds)
        ]
        a, b = (statistics.median(p[i] for p in pairs) * 1e6 for i in (0, 1))
        ratio = statistics.median(x / y for x, y in pairs)
        print(f"{batch:5}   {a:11.0f}   {b:10.0f}   {ratio:.3f}")


if __name__ == "__main__":
    main()
