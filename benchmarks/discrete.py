"""Sweeps of discrete models, compared with bare loops of torch in the same process.

    python benchmarks/discrete.py
    python benchmarks/discrete.py --rounds 5 --seconds 0.2

rbm      784 x 500 units, 100 chains, sampler=block_gibbs; bare: two matrix products, each with
         logistic probabilities and a comparison with uniform numbers
potts    136 sites of 5 symbols, 1,000 chains, sampler=gibbs; bare: for each site a matrix product
         with the one-hot states, the cumulative sum of a softmax, and a comparison

Rounds of both alternate, on one thread. Printed are the medians of CPU milliseconds per sweep and
of the ratio (ours) / (bare) of each round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from machine import processor, versions
from torch import Tensor

from ebmtrain.models.potts import Potts
from ebmtrain.models.rbm import Rbm
from ebmtrain.samplers.block_gibbs import BlockGibbs
from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.gibbs import Gibbs
from ebmtrain.types import Energy, Sampler

Sweeps = Callable[[int], Tensor]
"""Number of sweeps -> states after them, (chains, sites)."""


def shipped(sampler: Sampler, energy: Energy, x: Tensor) -> Sweeps:
    g = torch.Generator().manual_seed(0)
    return lambda count: run_chain(sampler, energy, x, count, g).x


def rbm() -> tuple[Sweeps, Sweeps]:
    visible, hidden, chains = 784, 500, 100
    g = torch.Generator().manual_seed(1)
    model = Rbm(hidden=hidden, event_shape=(visible,)).requires_grad_(False)
    for p in model.parameters():
        p.normal_(std=0.05, generator=g)
    x = torch.randint(2, (chains, visible), generator=g).float()
    a, b, w = (t.clone() for t in model.layers[:3])

    def bare(count: int) -> Tensor:
        v = x
        for _ in range(count):
            h = (torch.rand(chains, hidden, generator=g) < torch.sigmoid(b + v @ w)).float()
            v = (torch.rand(chains, visible, generator=g) < torch.sigmoid(a + h @ w.T)).float()
        return v

    return shipped(BlockGibbs(), model, x), bare


def potts() -> tuple[Sweeps, Sweeps]:
    sites, states, chains = 136, 5, 1000
    g = torch.Generator().manual_seed(2)
    model = Potts(event_shape=(sites,), states=states).requires_grad_(False)
    for p in model.parameters():
        p.normal_(std=0.05, generator=g)
    x = torch.randint(states, (chains, sites), generator=g).float()
    couplings, fields = model.couplings.clone(), model.fields.clone()
    symbols = torch.arange(states)

    def bare(count: int) -> Tensor:
        hot = torch.nn.functional.one_hot(x.long(), states).float()
        for _ in range(count):
            for i in range(sites):
                logits = fields[i] + hot.flatten(1) @ couplings[i].flatten(1).T
                below = logits.softmax(1).cumsum(1)[:, :-1]
                state = (torch.rand(chains, 1, generator=g) >= below).sum(1, keepdim=True)
                hot[:, i] = (state == symbols).float()
        return hot.argmax(2).float()

    return shipped(Gibbs(), model, x), bare


@torch.no_grad()
def compare(ours: Sweeps, bare: Sweeps, rounds: int, seconds: float) -> tuple[float, float, float]:
    """Median CPU milliseconds of a sweep of both, and the median ratio."""
    for each in (ours, bare):
        each(1)
    counts = [max(1, round(seconds / cpu_seconds(each, 1))) for each in (ours, bare)]
    times = [
        [cpu_seconds(each, n) / n for each, n in zip((ours, bare), counts, strict=True)]
        for _ in range(rounds)
    ]
    own, other = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    return own, other, statistics.median(a / b for a, b in times)


def cpu_seconds(sweeps: Sweeps, count: int) -> float:
    start = time.process_time()
    sweeps(count)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="of both, one after the other")
    parser.add_argument("--seconds", type=float, default=0.5, help="of CPU for each in a round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(processor(), versions("torch"))
    for name, make in {"rbm": rbm, "potts": potts}.items():
        own, other, ratio = compare(*make(), options.rounds, options.seconds)
        print(f"{name:6} ours {own:7.3f} ms  bare {other:7.3f} ms  ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
