r"""One tool at its training step, in a process of its own: what benchmarks/peers.py starts.

    python benchmarks/tools.py by_hand \
        '{"method": "pcd", "batch": 128, "width": 128, "dim": 2, "k": 10}'

Says `{"ready": seconds of the first two epochs, compilation included}`, then trains for an epoch at
each line that it reads and answers with the seconds per update, by the clock and of the processor,
and at the end of input with its peak memory.

All do the same work: a network dim-width-width-1, one Adam update on B positives and, for pcd, the
ends of B persistent Langevin chains of k steps; from the same data, chains and weights. (ebmtrain
averages the weights, measures the gradient and watches for divergence beside that.) dsm: denoising
score matching with SiLU, one noise; its k means nothing.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

ETA, SIGMA, RATE = 0.01, 0.1, 1e-3


@dataclass(frozen=True)
class Setting:
    method: str
    batch: int
    width: int
    dim: int
    k: int
    points: int = 10_000

    @property
    def steps(self) -> int:
        """Updates of an epoch, the unit of all timings."""
        return max(1, self.points // self.batch)

    @property
    def flops(self) -> float:
        """Of one update, in its products of matrices."""
        d, w, b = self.dim, self.width, self.batch
        forward = 2 * (d * w + w * w + w)
        if self.method == "dsm":  # energy and its slope, and backwards through both
            return b * 3 * 2 * forward
        return self.k * b * 2 * forward + 2 * b * 3 * forward


Epoch = Callable[[], Any]


def common(s: Setting) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Data, chains and weights (each matrix (out, in), its bias after it), float32."""
    random = np.random.default_rng(0)
    data = random.normal(size=(s.points, s.dim)).astype(np.float32)
    chains = random.normal(size=(s.batch, s.dim)).astype(np.float32)
    weights = []
    for n_in, n_out in ((s.dim, s.width), (s.width, s.width), (s.width, 1)):
        weights.append((random.normal(size=(n_out, n_in)) / math.sqrt(n_in)).astype(np.float32))
        weights.append(np.zeros(n_out, dtype=np.float32))
    return data, chains, weights


def filled(module: Any, weights: list[np.ndarray]) -> Any:
    import torch

    with torch.no_grad():
        for parameter, value in zip(module.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(value))
    return module


def network(s: Setting, weights: list[np.ndarray]) -> Any:
    from torch import nn

    act = nn.LeakyReLU if s.method == "pcd" else nn.SiLU
    layers = (
        nn.Linear(s.dim, s.width), act(), nn.Linear(s.width, s.width), act(), nn.Linear(s.width, 1)
    )  # fmt: skip
    return filled(nn.Sequential(*layers), weights)


def by_hand(s: Setting) -> Epoch:
    """The tutorial's eager loop: autograd for the chain, one optimizer step."""
    import torch

    points, first, weights = common(s)
    data, chains, net = torch.from_numpy(points), torch.from_numpy(first), network(s, weights)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)

    def contrastive(x: Any) -> Any:
        nonlocal chains
        for p in net.parameters():
            p.requires_grad_(False)
        y = chains
        for _ in range(s.k):
            y = y.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(net(y).sum(), y)
            y = y.detach() - ETA * gradient + (2 * ETA) ** 0.5 * torch.randn_like(y)
        for p in net.parameters():
            p.requires_grad_(True)
        chains = y
        return net(x).mean() - net(y).mean()

    def denoising(x: Any) -> Any:
        xi = torch.randn_like(x)
        y = (x + SIGMA * xi).requires_grad_()
        (gradient,) = torch.autograd.grad(net(y).sum(), y, create_graph=True)
        return (xi - SIGMA * gradient).square().sum(1).mean() / 2

    loss = contrastive if s.method == "pcd" else denoising

    def epoch() -> None:
        for rows in torch.randperm(s.points)[: s.steps * s.batch].view(s.steps, s.batch):
            value = loss(data[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

    return epoch


def ebmtrain(s: Setting, compiled: bool = False) -> Epoch:
    import torch

    from ebmtrain.compiled import Compiled
    from ebmtrain.datasets.points import Points
    from ebmtrain.datasets.standardizing import standardization_of
    from ebmtrain.methods.denoising_score_matching import DenoisingScoreMatching
    from ebmtrain.methods.persistent_contrastive_divergence import PersistentContrastiveDivergence
    from ebmtrain.models.mlp import MLP
    from ebmtrain.optimizers import Adam
    from ebmtrain.products import choose_library
    from ebmtrain.samplers.langevin import Langevin
    from ebmtrain.state import Job, start
    from ebmtrain.train import collect, update

    choose_library(s.batch)  # as of every run
    points, first, weights = common(s)
    data = torch.from_numpy(points)
    sampler = Langevin(step_size=ETA)
    contrastive = PersistentContrastiveDivergence(sampler=sampler, k=s.k, slots=s.batch)
    job = Job(
        method=contrastive if s.method == "pcd" else DenoisingScoreMatching(sigma=SIGMA),
        dataset=Points(data, data, standardization=standardization_of(data, False)),
        optimizer=Adam(lr=RATE), n_steps=10**9, batch_size=s.batch, ema=0.999, log_every=100,
        seed=0,
    )  # fmt: skip
    activation = "leaky_relu" if s.method == "pcd" else "silu"
    energy = MLP(event_shape=(s.dim,), width=s.width, depth=2, activation=activation)
    state = start(job, filled(energy, weights), torch.Generator().manual_seed(0))
    if s.method == "pcd":
        state.method["chains"] = torch.from_numpy(first)
    advance = Compiled() if compiled else None

    def epoch() -> None:
        for _ in range(s.steps):
            collect(job, state, update(job, state, advance), last=False)
        if advance is not None and advance.failed:
            raise RuntimeError("it could not be compiled")

    return epoch


def ebmtrain_compiled(s: Setting) -> Epoch:
    return ebmtrain(s, compiled=True)


def torchebm(s: Setting, matched: bool = True) -> Epoch:
    import torch
    from torchebm.core import BaseModel
    from torchebm.losses import ContrastiveDivergence, DenoisingScoreMatching
    from torchebm.samplers import LangevinDynamics

    points, first, weights = common(s)
    data = torch.from_numpy(points)

    class Model(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(s, weights)

        def forward(self, x: Any) -> Any:
            return self.net(x).squeeze(-1)

    model = Model()
    if s.method == "pcd":
        sampler = LangevinDynamics(model, step_size=ETA)
        same = {"buffer_size": s.batch, "init_steps": 0, "new_sample_ratio": 0.0,
                "energy_reg_weight": 0.0} if matched else {}  # fmt: skip
        loss: Any = ContrastiveDivergence(model, sampler, k_steps=s.k, persistent=True, **same)
        if matched:
            loss.initialize_buffer((s.dim,))
            loss.replay_buffer.copy_(torch.from_numpy(first))
    else:
        loss = DenoisingScoreMatching(model, noise_scale=SIGMA)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)

    def epoch() -> None:
        for rows in torch.randperm(s.points)[: s.steps * s.batch].view(s.steps, s.batch):
            optimizer.zero_grad()
            value = loss(data[rows])
            (value[0] if isinstance(value, tuple) else value).backward()
            optimizer.step()

    return epoch


def torchebm_defaults(s: Setting) -> Epoch:
    return torchebm(s, matched=False)


def jax(s: Setting) -> Epoch:
    """The whole epoch in one jitted lax.scan."""
    import jax as j
    import jax.numpy as jnp
    import optax

    points, first, flat = common(s)
    data = jnp.asarray(points)
    act = j.nn.leaky_relu if s.method == "pcd" else j.nn.silu
    optimizer = optax.adam(RATE)

    def energies(weights: Any, x: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = weights
        return (act(act(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3)[:, 0]

    slope = j.grad(lambda x, weights: energies(weights, x).sum())

    def contrastive(weights: Any, x: Any, chains: Any, key: Any) -> Any:
        def move(y: Any, noise: Any) -> Any:
            return y - ETA * slope(y, weights) + (2 * ETA) ** 0.5 * noise, None

        chains, _ = j.lax.scan(move, chains, j.random.normal(key, (s.k, s.batch, s.dim)))

        def loss(w: Any) -> Any:
            e = energies(w, jnp.concatenate([x, chains]))
            return e[: s.batch].mean() - e[s.batch :].mean()

        return *j.value_and_grad(loss)(weights), chains

    def denoising(weights: Any, x: Any, chains: Any, key: Any) -> Any:
        xi = j.random.normal(key, x.shape)

        def loss(w: Any) -> Any:
            return ((xi - SIGMA * slope(x + SIGMA * xi, w)) ** 2).sum(1).mean() / 2

        return *j.value_and_grad(loss)(weights), chains

    one = contrastive if s.method == "pcd" else denoising

    @j.jit
    def run(carry: Any, key: Any) -> Any:
        order, noise = j.random.split(key)
        rows = j.random.permutation(order, s.points)[: s.steps * s.batch].reshape(s.steps, s.batch)

        def body(carry: Any, what: Any) -> Any:
            weights, moments, chains = carry
            index, key = what
            value, gradient, chains = one(weights, data[index], chains, key)
            updates, moments = optimizer.update(gradient, moments)
            return (optax.apply_updates(weights, updates), moments, chains), value

        return j.lax.scan(body, carry, (rows, j.random.split(noise, s.steps)))

    weights = [jnp.asarray(w) for w in flat]
    carry: Any = (weights, optimizer.init(weights), jnp.asarray(first))
    key = j.random.key(0)

    def epoch() -> None:
        nonlocal carry, key
        key, now = j.random.split(key)
        carry, values = run(carry, now)
        values.block_until_ready()

    return epoch


def floor(s: Setting) -> Epoch:
    """As many operations as an epoch has, in nothing but B x width x width products."""
    import torch

    a, w = torch.randn(s.batch, s.width), torch.randn(s.width, s.width)
    out = torch.empty(s.batch, s.width)
    count = max(1, round(s.steps * s.flops / (2 * s.batch * s.width**2)))

    def epoch() -> None:
        for _ in range(count):
            torch.mm(a, w, out=out)

    return epoch


TOOLS = {
    f.__name__: f
    for f in (ebmtrain, ebmtrain_compiled, by_hand, torchebm, torchebm_defaults, jax, floor)
}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    name, setting = sys.argv[1], Setting(**json.loads(sys.argv[2]))
    threads = int(os.environ["OMP_NUM_THREADS"])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a tool prints is no answer
    if name != "jax":
        import torch

        torch.set_num_threads(threads)
    epoch = TOOLS[name](setting)
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
