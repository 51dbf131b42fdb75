"""One PCD-10 training step against the loop that one would write by hand.

    python benchmarks/step.py

Both do the same work: ULA with k = 10 from B persistent chains, network 2-128-128-1 with LeakyReLU,
one Adam update on B positives and B negatives. Rounds are interleaved in one process; what is
printed is the median time of each and the median of the ratios round by round (below 1: ebmtrain
is faster). ebmtrain's step is the one of its loop, with gradient norm, divergence flag and
weight average.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardizing import standardization_of
from ebmtrain.methods.persistent_contrastive_divergence import PersistentContrastiveDivergence
from ebmtrain.models.mlp import MLP
from ebmtrain.optimizers import Adam
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.train import Job, start, update

ETA = 0.01


def by_hand(data: torch.Tensor, batch: int) -> Callable[[], None]:
    """The tutorial's eager loop: autograd for the chain, one optimizer step."""
    net = nn.Sequential(
        nn.Linear(2, 128), nn.LeakyReLU(), nn.Linear(128, 128), nn.LeakyReLU(), nn.Linear(128, 1)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    chains = torch.randn(batch, 2)

    def step() -> None:
        nonlocal chains
        x = data[torch.randint(len(data), (batch,))]
        for p in net.parameters():
            p.requires_grad_(False)
        y = chains
        for _ in range(10):
            y = y.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(net(y).sum(), y)
            y = y.detach() - ETA * gradient + (2 * ETA) ** 0.5 * torch.randn_like(y)
        for p in net.parameters():
            p.requires_grad_(True)
        chains = y
        optimizer.zero_grad()
        (net(x).mean() - net(y).mean()).backward()
        optimizer.step()

    return step


def by_ebmtrain(data: torch.Tensor, batch: int) -> Callable[[], None]:
    sampler = Langevin(step_size=ETA)
    job = Job(
        method=PersistentContrastiveDivergence(sampler=sampler, k=10, slots=batch),
        dataset=Points(data, data, standardization=standardization_of(data, False)),
        optimizer=Adam(lr=1e-3), n_steps=10**9, batch_size=batch, ema=0.999, log_every=100, seed=0,
    )  # fmt: skip
    energy = MLP(event_shape=(2,), width=128, depth=2, activation="leaky_relu")
    state = start(job, energy, torch.Generator().manual_seed(0))
    return lambda: update(job, state) and None


def time_of(step: Callable[[], None], n_steps: int) -> float:
    began = time.perf_counter()
    for _ in range(n_steps):
        step()
    return (time.perf_counter() - began) / n_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = torch.randn(10_000, 2)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds")
    print("    B   ebmtrain us   by hand us   ratio (median of rounds)")
    for batch in (128, 256, 1024):
        n_steps = 20_000 // batch
        ours, theirs = by_ebmtrain(data, batch), by_hand(data, batch)
        time_of(ours, 10), time_of(theirs, 10)
        pairs = [(time_of(ours, n_steps), time_of(theirs, n_steps)) for _ in range(options.rounds)]
        a, b = (statistics.median(p[i] for p in pairs) * 1e6 for i in (0, 1))
        ratio = statistics.median(x / y for x, y in pairs)
        print(f"{batch:5}   {a:11.0f}   {b:10.0f}   {ratio:.3f}")


if __name__ == "__main__":
    main()
