"""Detection of diverged training."""

from __future__ import annotations

import torch

from ebmtrain.errors import DivergedError
from ebmtrain.score import freeze
from ebmtrain.training.state import TrainSpec, TrainState
from ebmtrain.types import HasEnergyRegularization

MAX_ABS_COORDINATE = 100.0  # in units of training, where the presets expect coordinates of order 1
MAX_ABS_ENERGY = 1e6  # bound on a loss, gradient norm or |mean E| in nats at T = 1


def check_divergence(spec: TrainSpec, state: TrainState) -> None:
    """Check the divergence flag and the energy of the next batch, once at each step. Waits for the
    device.

    The flag alone is not enough: weights that the last update made too large have seen no data yet.

    Raises:
        DivergedError: a loss, gradient or energy is not finite or beyond MAX_ABS_ENERGY.
    """
    if state.checked_at == state.step:
        return
    x = spec.dataset.batch(state.step, spec.batch_size, spec.seed).x
    with freeze(state.energy), torch.no_grad():
        sound = state.energy(x).mean().abs() < MAX_ABS_ENERGY  # NaN compares false
    if state.diverged | ~sound:
        remedy = "lower optimizer.lr, or set model.base_std"
        if isinstance(spec.method, HasEnergyRegularization):
            remedy = "lower optimizer.lr, set model.base_std, or raise method.energy_regularization"
        reach = x.abs().nan_to_num(0.0).amax()  # NaN: a step that is not there
        if reach > MAX_ABS_COORDINATE:
            remedy = f"its data reach {reach:.3g}: dataset.standardize=true, or {remedy}"
        if not spec.retries:
            remedy += "; or supervisor=retry"
        times = f" after {len(state.retries)} retries" if state.retries else ""
        raise DivergedError(
            f"training diverged by step {state.step}{times}: a loss, gradient or energy is not "
            f"finite or beyond {MAX_ABS_ENERGY:g}; {remedy}"
        )
    state.checked_at = state.step
