"""Trains one tool on five Gaussians for a given time: started by benchmarks/quality.py.

    python benchmarks/quality_run.py by_hand SEED SECONDS BEGAN

BEGAN is `time.monotonic()` before the start of this process. Prints a JSON list of
[seconds since then, updates, KL(data || model) in nats or null]. The model is copied at times that
increase by a constant factor, which costs a millisecond each; KL is computed from the copies after
the training.

ebmtrain           the updates of the default run (3,000, with a final learning rate of 0) without
                   plots and files; the averaged weights
by_hand            persistent contrastive divergence as in tutorials, on the raw points: 8,192
                   chains of which 5 % restart at uniform noise, ten Langevin steps of 0.01,
                   squared energies times 0.1 in the loss
torchebm           its example of persistent contrastive divergence for two moons with all its
                   settings, including a Langevin step of 0.1; on the raw points
torchebm_step      the same with a Langevin step of 0.01

All except the first: network 2-128-128-1 with SiLU, batch 256, Adam at 1e-3, the last weights.
"""

from __future__ import annotations

import copy
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from loops.setting import ETA, RATE
from torch import Tensor, nn

FACTOR = 1.15  # between the times of two copies
BATCH, K = 256, 10
SLOTS, RESTARTS = 8_192, 0.05
REGULARIZATION = 0.1  # without it the loop's KL stays between 1 and 5


class Flat(nn.Module):
    """A network with one output as an energy of shape (batch,)."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze(-1)


def points() -> Tensor:
    """10,000 points of the data set's density, in its own units."""
    centres = torch.tensor([[0.0, 0.0], [2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]])
    return centres[torch.randint(5, (10_000,))] + 0.3 * torch.randn(10_000, 2)


def noise(count: int) -> Tensor:
    """Uniform over a box larger than the data's: mass that no chain visits is not detected."""
    return torch.rand(count, 2) * 8 - 4


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1)
    )


def by_hand(seed: int) -> Iterator[nn.Module]:
    from loops.by_hand import langevin

    torch.manual_seed(seed)
    data, net = points(), network()
    chains = noise(SLOTS)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    while True:
        x = data[torch.randint(len(data), (BATCH,))]
        rows = torch.randint(SLOTS, (BATCH,))
        restart = torch.rand(BATCH, 1) < RESTARTS
        y = torch.where(restart, noise(BATCH), chains[rows])
        for p in net.parameters():
            p.requires_grad_(False)
        y = langevin(net, y, K)
        for p in net.parameters():
            p.requires_grad_(True)
        chains[rows] = y
        real, drawn = net(x), net(y)
        loss = real.mean() - drawn.mean()
        loss = loss + REGULARIZATION * (real.square().mean() + drawn.square().mean())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield Flat(net)


def torchebm(seed: int, step_size: float = 0.1) -> Iterator[nn.Module]:
    from torchebm.core import BaseModel
    from torchebm.losses import ContrastiveDivergence
    from torchebm.samplers import LangevinDynamics

    class Energy(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Any) -> Any:
            return self.net(x).squeeze(-1)

    torch.manual_seed(seed)
    data, energy = points(), Energy()
    sampler = LangevinDynamics(energy, step_size=step_size, noise_scale=1.0)
    pcd = ContrastiveDivergence(energy, sampler, k_steps=K, persistent=True, buffer_size=SLOTS)
    optimizer = torch.optim.Adam(energy.parameters(), lr=RATE)
    while True:
        loss, _ = pcd(data[torch.randint(len(data), (BATCH,))])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield Flat(energy.net)


def torchebm_step(seed: int) -> Iterator[nn.Module]:
    return torchebm(seed, step_size=ETA)


def build_experiment(*words: str) -> Any:
    from ebmtrain.config import presets
    from ebmtrain.config.build import build

    return build(
        presets.to_plain(presets.compose_config([*words, "device=cpu"])), set_up_process=True
    )


def ebmtrain(seed: int) -> Iterator[nn.Module]:
    from ebmtrain.training.loop import collect_metrics, run_step
    from ebmtrain.training.state import initial_state

    experiment = build_experiment(f"seed={seed}")
    spec = experiment.train_spec
    state = initial_state(spec, experiment.energy, experiment.generator("train"))
    while state.step < spec.n_steps:
        metrics = run_step(spec, state)
        collect_metrics(spec, state, metrics, last=state.step == spec.n_steps)
        yield state.eval_model


TOOLS = {f.__name__: f for f in (ebmtrain, by_hand, torchebm, torchebm_step)}


def copies(
    models: Iterator[nn.Module], seconds: float, began: float
) -> list[tuple[float, int, nn.Module]]:
    """The model after its first update, at times `FACTOR` apart, and at the end."""
    found: list[tuple[float, int, nn.Module]] = []
    due, step, model = 0.0, 0, None
    for step, model in enumerate(models, 1):
        now = time.monotonic() - began
        if now >= min(due, seconds):
            found.append((now, step, copy.deepcopy(model)))
            due = FACTOR * now
        if now >= seconds:
            break
    assert model is not None
    if found[-1][1] < step:  # its updates ended before the time limit
        found.append((time.monotonic() - began, step, copy.deepcopy(model)))
    return found


def kl(energy: nn.Module, experiment: Any) -> float | None:
    """KL(data || model) in nats; None if it is infinite or the quadrature fails."""
    from ebmtrain.runs.evaluate import evaluation_input

    value = experiment.evaluators["evaluation"](
        evaluation_input(experiment, energy, {})
    ).metrics.get("kl", math.nan)
    return value if math.isfinite(value) else None


def main() -> None:
    name, seed, seconds, began = sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of a tool is not an answer
    torch.set_num_threads(1)
    found = copies(TOOLS[name](seed), seconds, began)
    # In the units of the points that the tool was trained on.
    experiment = build_experiment(
        f"seed={seed}", *([] if name == "ebmtrain" else ["dataset.standardize=false"])
    )
    answers.write(json.dumps([(now, step, kl(model, experiment)) for now, step, model in found]))
    answers.close()


if __name__ == "__main__":
    main()
