"""ebmtrain's update, with default settings and compiled."""

from __future__ import annotations

from typing import Any

import torch

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.methods.denoising_score_matching import DenoisingScoreMatching
from ebmtrain.methods.energy_discrepancy import EnergyDiscrepancy
from ebmtrain.methods.persistent_contrastive_divergence import PersistentContrastiveDivergence
from ebmtrain.methods.sliced_score_matching import SlicedScoreMatching
from ebmtrain.models.mlp import MLP
from ebmtrain.samplers.hmc import Hmc
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.training.compiled.inductor import CompiledTrainStep
from ebmtrain.training.loop import collect_metrics, run_step
from ebmtrain.training.optimizers import Adam
from ebmtrain.training.state import TrainSpec, initial_state
from ebmtrain.types import Method
from loops.setting import EPS, ETA, RATE, SIGMA, VARIANCE, Epoch, M, Setting, common, filled

# What the other tools train: a perceptron of the points themselves.
PLAIN: dict[str, Any] = {
    "depth": 2, "input_scale": 1.0, "fourier_features": 0, "base_std": None,
}  # fmt: skip


def method_of(s: Setting) -> Method:
    match s.method:
        case "pcd":
            sampler = Langevin(step_size=ETA)
            return PersistentContrastiveDivergence(
                sampler=sampler, k=s.k, slots=s.batch, energy_regularization=0.0
            )
        case "hmc":  # jitters the step of each trajectory, unlike the other tools
            sampler = Hmc(step_size=EPS, n_leapfrog=s.k)
            return PersistentContrastiveDivergence(
                sampler=sampler, k=1, slots=s.batch, energy_regularization=0.0
            )
        case "dsm":
            return DenoisingScoreMatching(sigma=SIGMA)
        case "ssm":
            return SlicedScoreMatching(n_projections=1, variance_reduced=False)
        case "ed":
            return EnergyDiscrepancy(t=VARIANCE, m=M)
    raise ValueError(f"no method {s.method}")


def ebmtrain(s: Setting, compiled: bool = False) -> Epoch:
    points, first, weights = common(s)
    data = torch.from_numpy(points)
    spec = TrainSpec(
        method=method_of(s),
        dataset=Points(data, data, standardization=fit_standardization(data, False)),
        optimizer=Adam(lr=RATE), n_steps=10**9, batch_size=s.batch, ema=0.999, log_every=100,
        seed=0,
    )  # fmt: skip
    activation = "silu" if s.smooth else "leaky_relu"
    energy = MLP(event_shape=(s.dim,), width=s.width, activation=activation, **PLAIN)
    state = initial_state(spec, filled(energy, weights), torch.Generator().manual_seed(0))
    if "chains" in state.method:
        state.method["chains"] = torch.from_numpy(first)
    stepper = CompiledTrainStep() if compiled else None

    def epoch() -> None:
        for _ in range(s.steps):
            collect_metrics(spec, state, run_step(spec, state, stepper), last=False)
        if stepper is not None and stepper.failed:
            raise RuntimeError("it could not be compiled")

    return epoch


def ebmtrain_compiled(s: Setting) -> Epoch:
    return ebmtrain(s, compiled=True)
