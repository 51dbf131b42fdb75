"""Batched updates of many seeds, compared with the same updates one run after the other.

    python benchmarks/ensemble.py --members 8 32

Both make the updates of the default run (or of the given overrides, such as `sampler=langevin
model.fourier_features=0`) at B = 128 in one process, with the whole training loop except
evaluations, plots and checkpoints. Rounds of some updates alternate. Printed are the median time of
an update of all members, the median over rounds of the ratio (one after the other) / (batched), in
wall-clock and in CPU time, and the time to make the graph.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.training.compiled.vmap import VmapTrainStep
from ebmtrain.training.loop import (
    StepRequests,
    collect_metrics,
    request_step,
    run_interleaved,
    run_to_completion,
    train_step,
)
from ebmtrain.training.state import TrainSpec, TrainState, initial_state


def begun(count: int, words: list[str]) -> list[tuple[TrainSpec, TrainState]]:
    found = []
    for seed in range(count):
        experiment = build(
            presets.to_plain(presets.compose_config([*words, f"seed={seed}"])), set_up_process=True
        )
        assert experiment.train_spec is not None
        found.append(
            (
                experiment.train_spec,
                initial_state(
                    experiment.train_spec, experiment.energy, experiment.generator("train")
                ),
            )
        )
    return found


def loop(spec: TrainSpec, state: TrainState, steps: int) -> StepRequests[None]:
    for _ in range(steps):
        collect_metrics(spec, state, (yield from request_step(spec, state)), last=False)


def raised(_: int, found: object) -> None:
    if isinstance(found, Exception):
        raise found


def timed(act: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Wall-clock seconds and CPU seconds."""
    wall, own = time.perf_counter(), time.process_time()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - own


def compare(count: int, words: list[str], rounds: int, steps: int, *, compile: bool) -> None:
    apart, members = begun(count, words), begun(count, words)
    together = VmapTrainStep(compile=compile)
    device = members[0][1].diverged.device

    def one_after_the_other() -> None:
        for spec, state in apart:
            run_to_completion(loop(spec, state, steps), train_step)

    def as_one() -> None:
        run_interleaved([loop(spec, state, steps) for spec, state in members], together, raised)

    one_after_the_other()
    began = time.process_time()
    as_one()
    made = time.process_time() - began
    as_one()
    if together.failed:
        raise SystemExit("the updates were not batched")
    pairs = []
    for _ in range(rounds):
        pairs.append((timed(one_after_the_other, device), timed(as_one, device)))
    wall, own = (statistics.median(a[i] / b[i] for a, b in pairs) for i in (0, 1))
    each, all_at_once = (  # ms
        statistics.median(pair[i][0] for pair in pairs) / steps * 1e3 for i in (0, 1)
    )
    print(
        f"{count:7}   {each:14.1f}   {all_at_once:10.1f}   {wall:12.2f}   {own:17.2f} {made:10.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="updates of each member per round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="compile the ensemble's graph")
    parser.add_argument("words", nargs="*", help="overrides of the configuration")
    options = parser.parse_args()
    words = ["train.batch_size=128", f"device.threads={options.threads}", *options.words]
    print(f"torch {torch.__version__}, {options.rounds} rounds of {options.steps} updates")
    print("members   one by one, ms   as one, ms   ratio (wall)   ratio (processor)   graph, s")
    for count in options.members:
        compare(count, words, options.rounds, options.steps, compile=options.compile)


if __name__ == "__main__":
    main()
