r"""Times the training step of one tool in a separate process: started by benchmarks/peers.py.

    python benchmarks/tools.py by_hand \
        '{"method": "pcd", "batch": 128, "width": 128, "dim": 2, "k": 10}'

Prints `{"ready": seconds of the first two epochs, compilation included}`. For each line of input it
trains for one epoch and prints the seconds per update, wall-clock and CPU; at the end of input it
prints its peak memory.

All tools do the same work (see loops/setting.py): a network dim-width-width-1, one Adam update on B
positives, from the same data, chains and weights. (ebmtrain also averages the weights, computes the
norm of the gradient and checks for divergence.)
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from importlib import import_module

from loops.setting import Setting

# Imported only in the process of the tool, which alone needs the tool's packages.
TOOLS = {
    "ebmtrain": "ours", "ebmtrain_compiled": "ours", "by_hand": "by_hand",
    "torchebm": "with_torchebm", "torchebm_defaults": "with_torchebm", "jax": "with_jax",
    "floor": "floor",
}  # fmt: skip


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    name, setting = sys.argv[1], Setting(**json.loads(sys.argv[2]))
    threads = int(os.environ["OMP_NUM_THREADS"])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # output of a tool is not an answer
    if name != "jax":
        import torch

        torch.set_num_threads(threads)
    epoch = getattr(import_module(f"loops.{TOOLS[name]}"), name)(setting)
    began = time.perf_counter()
    epoch()
    epoch()
    print(json.dumps({"ready": time.perf_counter() - began}), file=answers)
    for _ in sys.stdin:
        began, busy = time.perf_counter(), time.process_time()
        epoch()
        spent = time.perf_counter() - began, time.process_time() - busy
        print(json.dumps([t / setting.steps for t in spent]), file=answers)
    print(json.dumps({"peak_mb": peak_mb()}), file=answers)


if __name__ == "__main__":
    main()
