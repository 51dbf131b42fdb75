"""TorchEBM's losses and samplers in its loop, with the settings of the others or its defaults.

With matched settings its HMC still computes two gradients in each leapfrog step, and in addition
the energies of both ends: it does not cache them. Release 0.8.9 has no energy discrepancy.
"""

from __future__ import annotations

from typing import Any

import torch
from torchebm.core import BaseModel
from torchebm.losses import ContrastiveDivergence, DenoisingScoreMatching, SlicedScoreMatching
from torchebm.samplers import HamiltonianMonteCarlo, LangevinDynamics

from loops.setting import EPS, ETA, RATE, SIGMA, Epoch, Setting, common, network

MATCHED = {"init_steps": 0, "new_sample_ratio": 0.0, "energy_reg_weight": 0.0}


def loss_of(s: Setting, model: Any, chains: torch.Tensor, matched: bool) -> Any:
    match s.method:
        case "dsm":
            return DenoisingScoreMatching(model, noise_scale=SIGMA)
        case "ssm":
            return SlicedScoreMatching(model, n_projections=1, projection_type="gaussian")
        case "pcd":
            sampler: Any = LangevinDynamics(model, step_size=ETA)
            k = s.k
        case "hmc":
            sampler = HamiltonianMonteCarlo(model, step_size=EPS, n_leapfrog_steps=s.k)
            k = 1
        case _:
            raise ValueError(f"TorchEBM has no method {s.method}")
    same = MATCHED | {"buffer_size": s.batch} if matched else {}
    loss = ContrastiveDivergence(model, sampler, k_steps=k, persistent=True, **same)
    if matched:
        loss.initialize_buffer((s.dim,))
        loss.replay_buffer.copy_(chains)
    return loss


def torchebm(s: Setting, matched: bool = True) -> Epoch:
    points, first, weights = common(s)
    data = torch.from_numpy(points)

    class Model(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(s, weights)

        def forward(self, x: Any) -> Any:
            return self.net(x).squeeze(-1)

    model = Model()
    loss = loss_of(s, model, torch.from_numpy(first), matched)
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
