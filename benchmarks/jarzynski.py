"""Error of the running log Z of jarzynski, for both groups of walkers and several group sizes.

    python benchmarks/jarzynski.py                                  the table of docs/jarzynski.md
    python benchmarks/jarzynski.py --walkers 1024 --seeds 5 train.steps=3000

Each row trains the default network on five Gaussians. It compares the log Z of both groups, for the
weights of the last step and in standardized units, with grid quadrature. Further arguments are
overrides.
"""

from __future__ import annotations

import argparse
import copy
import time

import torch

from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.evaluation.estimators.grid_quadrature import integrate_log_z
from ebmtrain.training.loop import run_step
from ebmtrain.training.state import initial_state


def errors(words: list[str]) -> tuple[float, float, float]:
    """Errors of log Z of the teaching and of the measuring group in nats, and training seconds."""
    experiment = build(
        presets.to_plain(presets.compose_config(["method=jarzynski", *words])), set_up_process=True
    )
    spec = experiment.train_spec
    assert spec is not None
    state = initial_state(spec, experiment.energy, experiment.generator("train"))
    began = time.perf_counter()
    for _ in range(spec.n_steps):
        run_step(spec, state)
    seconds = time.perf_counter() - began
    exact = copy.deepcopy(state.energy).double()
    box = experiment.region.grown(1.6)
    truth = integrate_log_z(lambda u: exact(u) / experiment.temperature, box, 256, 1e-3).value
    walkers = {name: state.method[name] for name in ("chains", "energies", "log_weights")}
    swapped = {name: torch.cat(v.chunk(2)[::-1]) for name, v in walkers.items()}
    method = spec.method
    taught, measured = (
        float(method.log_z(state.energy, w)) - truth  # type: ignore[attr-defined]
        for w in (swapped, walkers)
    )
    return taught, measured, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--walkers", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--seeds", type=int, default=2)
    options, words = parser.parse_known_args()
    torch.set_num_threads(1)
    print("| walkers a group | seed | teaching | measuring | seconds |\n|---|---|---|---|---|")
    for n in options.walkers:
        for seed in range(options.seeds):
            chosen = ["train.steps=1000", f"method.walkers={n}", f"seed={seed}", *words]
            taught, measured, seconds = errors(chosen)
            row = f"| {n:,} | {seed} | {taught:+.3f} | {measured:+.3f} | {seconds:.0f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
