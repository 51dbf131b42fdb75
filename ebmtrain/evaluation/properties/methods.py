"""Properties of a training objective: the position of its optimum, and no side effects."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ebmtrain.evaluation.properties.result import (
    PropertyResult,
    no_faults,
    not_applicable,
    seeded_generator,
)
from ebmtrain.evaluation.properties.state_target import StateTarget
from ebmtrain.types import Batch, HasEnergyRegularization, Method, Space, Tensors

_BURN_IN_UPDATES = 60  # of the first block, in which chains and learnt constants equilibrate
_MAX_DRIFT_SE = 1.5  # between two blocks that count as stationary
_MIN_UPDATES = 60  # of the measurement, extended until the sign is clear
_MAX_UPDATES = 4_000
_MIN_SIGNIFICANCE_SE = 4.0
_PRECISIONS = 0.6, 1.6
"""The optimum for unit Gaussian data must be between these precisions. The interval is wide enough
for blur (denoising), regularization and chains without rejection; a wrong sign, a missing trace or
a factor of 2 moves the optimum out of it.
"""


class _QuadraticEnergy(nn.Module):
    """E(x) = a ||x||^2 / 2, which has its maximum likelihood at a = 1 for points of N(0, I). A
    `Joint` energy of one class.
    """

    classes = 1

    def __init__(self, a: float):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def joint(self, x: Tensor) -> Tensor:
        """(batch, *event) -> (batch, 1)."""
        return self(x)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x.flatten(1).square().sum(1) / 2


def check_method(
    method: Method,
    energy: nn.Module,
    x: Tensor,
    y: Tensor | None = None,
    size: int = 256,
    space: Space = "real",
) -> Iterator[PropertyResult]:
    """Checks a method on a quadratic energy, or on a small RBM of binary states, and on the user's
    energy with batches of `size` standardized training points x, (n, *event), and their classes y,
    if any.
    """
    yield from _check_optimum(method, size, space)
    yield from _check_update(method, energy, x, y, size)


def _check_optimum(method: Method, size: int, space: Space = "real") -> Iterator[PropertyResult]:
    """Checks that dL/da < 0 below the optimum and > 0 above it, on average: of E = a ||x||^2 / 2,
    or of binary states of an RBM whose weights are scaled by a."""
    name = "loss has its optimum where it should"
    try:
        slopes = [_stationary_slope(method, a, size, space) for a in _PRECISIONS]
        holds = _has_optimum_between(*slopes)
        advice = "" if holds else _regularization_advice(method, size, space)
    except (TypeError, AttributeError, ValueError, RuntimeError) as error:
        of = "E = a ||x||^2 / 2" if space == "real" else "an RBM of 3 x 3 states"
        yield not_applicable(name, f"the method does not take {of}: {error}")
        return
    pairs = zip(_PRECISIONS, slopes, strict=True)
    text = ", ".join(f"{mean:+.3f} +- {se:.3f} at a = {a}" for a, (mean, se) in pairs)
    yield PropertyResult(name, holds, f"dL/da {text}{advice}", "< 0, > 0")


def _has_optimum_between(low: tuple[float, float], high: tuple[float, float]) -> bool:
    """Whether dL/da, given by mean and standard error, is negative at the low and positive at the
    high precision.
    """
    return low[0] < -_MIN_SIGNIFICANCE_SE * low[1] and high[0] > _MIN_SIGNIFICANCE_SE * high[1]


def _regularization_advice(method: Method, size: int, space: Space) -> str:
    """The remedy if the property holds without the energy regularization of the method; else ""."""
    if not isinstance(method, HasEnergyRegularization) or not is_dataclass(method):
        return ""
    if not (alpha := method.energy_regularization):
        return ""
    unregularized: Any = replace(method, energy_regularization=0.0)  # type: ignore[type-var]
    slopes = (_stationary_slope(unregularized, a, size, space) for a in _PRECISIONS)
    if not _has_optimum_between(*slopes):
        return ""
    return (
        f"; method.energy_regularization={alpha:g} outweighs the gradient of chains this short: "
        "lower it, or raise method.k or sampler.step_size"
    )


def _stationary_slope(method: Method, a: float, size: int, space: Space) -> tuple[float, float]:
    """Mean and standard error of dL/da over updates, after the chains and learnt constants of the
    method are stationary: two consecutive blocks of updates agree. Each block is as long as all
    before it.
    """
    slopes = _slope_sequence(method, a, size, space)
    n = _BURN_IN_UPDATES
    previous = _mean_and_error(list(islice(slopes, n)))
    while n < _MAX_UPDATES:
        current = _mean_and_error(list(islice(slopes, n)))
        if abs(current[0] - previous[0]) < _MAX_DRIFT_SE * math.hypot(current[1], previous[1]):
            break
        n, previous = 2 * n, current
    sample = list(islice(slopes, _MIN_UPDATES))
    mean, error = _mean_and_error(sample)
    while len(sample) < _MAX_UPDATES and not abs(mean) > 2 * _MIN_SIGNIFICANCE_SE * error:
        sample += islice(slopes, _MIN_UPDATES)
        mean, error = _mean_and_error(sample)
    return mean, error


def _slope_sequence(method: Method, a: float, size: int, space: Space) -> Iterator[float]:
    """dL/da of consecutive updates, with points of the density at a = 1."""
    energy, generator = _QuadraticEnergy(a), seeded_generator(1)
    data = torch.randn(20 * size, 2, generator=seeded_generator(2))
    if space == "binary":
        energy = StateTarget(a)
        data = StateTarget(1.0).draw(20 * size, 1.0).to(data)
    state = method.init(data, generator)
    parameters = [value for value in state.values() if value.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=0.1) if parameters else None
    while True:
        x = data[torch.randint(len(data), (size,), generator=generator)]
        y = torch.zeros(len(x), dtype=torch.int64)
        out = method.loss(energy, Batch(x, y), state, generator)
        energy.a.grad = None
        out.loss.backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
        state = out.state
        yield float(energy.a.grad)  # type: ignore[arg-type]


def _mean_and_error(slopes: list[float]) -> tuple[float, float]:
    """Mean and standard error by 12 blocks: consecutive slopes are correlated through persistent
    chains, means of blocks are nearly independent.
    """
    blocks = torch.tensor(slopes).view(12, -1).mean(1)
    return float(blocks.mean()), float(blocks.std() / len(blocks) ** 0.5)


def _check_update(
    method: Method, energy: nn.Module, x: Tensor, y: Tensor | None, size: int
) -> Iterator[PropertyResult]:
    """Checks one evaluation of the loss on the user's energy and points."""
    energy = copy.deepcopy(energy).train()
    rng_state, classes = torch.get_rng_state(), None if y is None else y[:size].clone()
    batch = x[:size].clone()
    state = method.init(x, seeded_generator(3))
    old = {name: value.detach().clone() for name, value in state.items()}
    out = method.loss(energy, Batch(batch, classes), state, seeded_generator(4))
    has_gradients = any(p.grad is not None for p in energy.parameters())
    repeated = method.loss(energy, Batch(batch, classes), state, seeded_generator(4)).loss
    same = torch.equal(out.loss, repeated)
    faults = {
        "the batch changed": not torch.equal(batch, x[:size]),
        "the old state changed": any(not torch.equal(old[n], v) for n, v in state.items()),
        "torch's global generator was used": not torch.equal(torch.get_rng_state(), rng_state),
        "the same generator gives another loss": not same,
        "gradients arrive before backward()": has_gradients,
    }
    yield no_faults(
        "loss depends on its arguments alone and changes none", faults, "no side effect"
    )
    yield _check_gradient(out.loss, energy)
    yield _check_state(out.state, state)


def _check_gradient(loss: Tensor, energy: nn.Module) -> PropertyResult:
    """The loss is finite and has a finite, positive gradient norm."""
    name = "loss is finite and moves the parameters"
    if not loss.requires_grad:
        return PropertyResult(name, False, "the loss has no gradient", "finite, some slope")
    try:
        loss.backward()
    except RuntimeError as error:  # for example, the batch was changed in place
        return PropertyResult(name, False, str(error)[:100], "finite, some slope")
    norms = [p.grad.norm() for p in energy.parameters() if p.grad is not None]
    size = float(torch.stack(norms).norm()) if norms else 0.0
    holds = bool(loss.isfinite()) and 0 < size < float("inf")
    return PropertyResult(
        name, holds, f"loss {loss.item():.4g}, gradient {size:.3g}", "finite, > 0"
    )


def _check_state(new: Tensors, old: Tensors) -> PropertyResult:
    """The state keeps its names, shapes and types and has no graph, apart from tensors that are
    trained.
    """
    faults = [name for name in {*new, *old} if name not in new or name not in old]
    faults += [
        name
        for name in {*new} & {*old}
        if (new[name].shape, new[name].dtype) != (old[name].shape, old[name].dtype)
        or (new[name].requires_grad and new[name] is not old[name])
    ]
    names = ", ".join(sorted(faults))
    return PropertyResult(
        "state can be saved and resumed",
        not faults,
        f"changed or attached: {names}" if faults else f"{len(new)} tensors",
        "same names, shapes, types; detached",
    )
