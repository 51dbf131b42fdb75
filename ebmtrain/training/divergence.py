"""TODO ebmtrain/training/divergence.py."""

from __future__ import annotations

import torch

from ebmtrain.errors import DivergedError
from ebmtrain.score import freeze
from ebmtrain.training.state import TrainSpec, TrainState
from ebmtrain.types import HasEnergyRegularization

MAX_ABS_COORDINATE = 100.0  # in units of training, where the presets expect coordinates of order 1
MAX_ABS_ENERGY = 1e6  # |mean E| beyond which training has run away, in nats at T = 1


def check_divergence(job: TrainSpec, state: TrainState) -> None:
    """Raises DivergedError if the flag is set, or would be by the next update: weights that the
    last one has blown up have met no data yet. Waits for the device."""
    x = job.dataset.batch(state.step, job.batch_size, job.seed).x
    with freeze(state.energy), torch.no_grad():
        sound = state.energy(x).mean().abs() < MAX_ABS_ENERGY  # NaN compares false
    if state.diverged | ~sound:
        remedy = "lower optimizer.lr, or set model.base_std"
        if isinstance(job.method, HasEnergyRegularization):
            remedy = "lower optimizer.lr, set model.base_std, or raise method.energy_regularization"
        reach = x.abs().nan_to_num(0.0).amax()  # NaN: a step that is not there
        if reach > MAX_ABS_COORDINATE:
            remedy = f"its data reach {reach:.3g}: dataset.standardize=true, or {remedy}"
        if not job.retries:
            remedy += "; or supervisor=retry"
        times = f" after {len(state.retries)} retries" if state.retries else ""
        raise DivergedError(
            f"training diverged by step {state.step}{times}: a loss, gradient or energy is not "
            f"finite or beyond {MAX_ABS_ENERGY:g}; {remedy}"
        )
