"""Laws of a training objective: it pulls to where it should, and does nothing else."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ebmtrain.evaluation.properties.result import PropertyResult, not_applicable, seeded_generator
from ebmtrain.types import Batch, HasEnergyRegularization, Method, Tensors

_BURN_IN_UPDATES = 60  # updates of the first spell in which chains and constants may settle
_MAX_DRIFT_SE = 1.5  # standard errors between two spells that pass for none
_MIN_UPDATES = 60  # at first; as many again as it takes to tell the sign, up to _MOST
_MAX_UPDATES = 4_000
_MIN_SIGNIFICANCE_SE = 4.0
LOW_PRECISION, HIGH_PRECISION = 0.6, 1.6
"""Precisions between which the optimum for unit Gaussian data must lie. Wide enough for blur
(denoising), regularisation and chains without rejection; a wrong sign, a missing trace or a factor
of 2 lies outside."""


class QuadraticEnergy(nn.Module):
    """E(x) = a ||x||^2 / 2: for points of N(0, I), maximum likelihood is at a = 1. A `Joint` energy
    of one class."""

    classes = 1

    def __init__(self, a: float):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def joint(self, x: Tensor) -> Tensor:
        return self(x)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x.flatten(1).square().sum(1) / 2


def check_method(
    method: Method, energy: nn.Module, x: Tensor, y: Tensor | None = None, size: int = 256
) -> Iterator[PropertyResult]:
    """Args:
    energy: the user's.
    x: standardized training points, (n, *event).
    y: their classes, (n,), where they have any.
    size: of a batch.
    """
    yield from check_optimum(method, size)
    yield from _check_update(method, energy, x, y, size)


def check_optimum(method: Method, size: int) -> Iterator[PropertyResult]:
    """dL/da < 0 below the optimum and > 0 above it, on average over updates."""
    law = "loss has its optimum where it should"
    try:
        slopes = {a: _stationary_slope(method, a, size) for a in (LOW_PRECISION, HIGH_PRECISION)}
        holds = _has_optimum_between(slopes)
        why = "" if holds else _regularization_advice(method, size)
    except (TypeError, AttributeError, ValueError, RuntimeError) as error:
        yield not_applicable(law, f"the method does not take E = a ||x||^2 / 2: {error}")
        return
    text = ", ".join(f"{mean:+.3f} +- {se:.3f} at a = {a}" for a, (mean, se) in slopes.items())
    yield PropertyResult(law, holds, f"dL/da {text}{why}", "< 0, > 0")


def _has_optimum_between(slopes: Mapping[float, tuple[float, float]]) -> bool:
    (low, low_error), (high, high_error) = slopes[LOW_PRECISION], slopes[HIGH_PRECISION]
    return low < -_MIN_SIGNIFICANCE_SE * low_error and high > _MIN_SIGNIFICANCE_SE * high_error


def _regularization_advice(method: Method, size: int) -> str:
    """What to change where a method's regularization is all that is wrong; else nothing."""
    if not isinstance(method, HasEnergyRegularization) or not is_dataclass(method):
        return ""
    alpha = method.energy_regularization
    if not alpha:
        return ""
    free: Any = replace(method, energy_regularization=0.0)  # type: ignore[type-var]
    if not _has_optimum_between(
        {a: _stationary_slope(free, a, size) for a in (LOW_PRECISION, HIGH_PRECISION)}
    ):
        return ""
    return (
        f"; method.energy_regularization={alpha:g} outweighs what so short chains teach: raise "
        "method.k or sampler.step_size, or lower it"
    )


def _stationary_slope(method: Method, a: float, size: int) -> tuple[float, float]:
    """Mean and standard error of dL/da over updates whose chains and constants have settled: two
    spells in a row agree, each twice as long as the one before until they do."""
    slopes = _slope_sequence(method, a, size)
    n = _BURN_IN_UPDATES
    before = _mean_and_error(list(islice(slopes, n)))
    while n < _MAX_UPDATES:
        now = _mean_and_error(list(islice(slopes, n)))
        if abs(now[0] - before[0]) < _MAX_DRIFT_SE * math.hypot(now[1], before[1]):
            break
        n, before = 2 * n, now
    found = list(islice(slopes, _MIN_UPDATES))
    while len(found) < _MAX_UPDATES and not _sign_is_clear(found):
        found += islice(slopes, _MIN_UPDATES)
    return _mean_and_error(found)


def _slope_sequence(method: Method, a: float, size: int) -> Iterator[float]:
    """dL/da of one update after the other, of E = a ||x||^2 / 2 for points of N(0, I)."""
    energy, generator = QuadraticEnergy(a), seeded_generator(1)
    data = torch.randn(20 * size, 2, generator=seeded_generator(2))
    state = method.init(data, generator)
    learnt = [value for value in state.values() if value.requires_grad]
    settle = torch.optim.Adam(learnt, lr=0.1) if learnt else None
    while True:
        x = data[torch.randint(len(data), (size,), generator=generator)]
        y = torch.zeros(len(x), dtype=torch.int64)
        out = method.loss(energy, Batch(x, y), state, generator)
        energy.a.grad = None
        out.loss.backward()
        if settle is not None:
            settle.step()
            settle.zero_grad()
        state = out.state
        yield float(energy.a.grad)  # type: ignore[arg-type]


def _mean_and_error(slopes: list[float]) -> tuple[float, float]:
    """Persistent chains make neighbours alike: means of blocks are nearly independent."""
    blocks = torch.tensor(slopes).view(12, -1).mean(1)
    return float(blocks.mean()), float(blocks.std() / len(blocks) ** 0.5)


def _sign_is_clear(slopes: list[float]) -> bool:
    mean, error = _mean_and_error(slopes)
    return abs(mean) > 2 * _MIN_SIGNIFICANCE_SE * error


def _check_update(
    method: Method, energy: nn.Module, x: Tensor, y: Tensor | None, size: int
) -> Iterator[PropertyResult]:
    """On the user's own energy and points."""
    energy = copy.deepcopy(energy).train()
    world, classes = torch.get_rng_state(), None if y is None else y[:size].clone()
    batch = x[:size].clone()
    state = method.init(x, seeded_generator(3))
    old = {name: value.detach().clone() for name, value in state.items()}
    out = method.loss(energy, Batch(batch, classes), state, seeded_generator(4))
    polluted = any(p.grad is not None for p in energy.parameters())
    again = method.loss(energy, Batch(batch, classes), state, seeded_generator(4)).loss
    same = torch.equal(out.loss, again)
    wrong = {
        "the batch changed": not torch.equal(batch, x[:size]),
        "the old state changed": any(not torch.equal(old[n], v) for n, v in state.items()),
        "torch's global generator was used": not torch.equal(torch.get_rng_state(), world),
        "the same generator gives another loss": not same,
        "gradients arrive before backward()": polluted,
    }
    found = [name for name, broken in wrong.items() if broken]
    yield PropertyResult("loss depends on its arguments alone and changes none", not found,
                  "; ".join(found) or "so it is", "nothing else")  # fmt: skip
    yield _check_gradient(out.loss, energy)
    yield _check_state(out.state, state)


def _check_gradient(loss: Tensor, energy: nn.Module) -> PropertyResult:
    law = "loss is finite and moves the parameters"
    if not loss.requires_grad:
        return PropertyResult(law, False, "the loss has no gradient", "finite, some slope")
    try:
        loss.backward()
    except RuntimeError as error:  # say, the batch was changed in place
        return PropertyResult(law, False, str(error)[:100], "finite, some slope")
    norms = [p.grad.norm() for p in energy.parameters() if p.grad is not None]
    size = float(torch.stack(norms).norm()) if norms else 0.0
    holds = bool(loss.isfinite()) and 0 < size < float("inf")
    return PropertyResult(law, holds, f"loss {loss.item():.4g}, gradient {size:.3g}", "finite, > 0")


def _check_state(new: Tensors, old: Tensors) -> PropertyResult:
    """Same names, shapes and types as before; without a graph, unless it is trained itself."""
    wrong = [name for name in {*new, *old} if name not in new or name not in old]
    wrong += [
        name
        for name in {*new} & {*old}
        if (new[name].shape, new[name].dtype) != (old[name].shape, old[name].dtype)
        or (new[name].requires_grad and new[name] is not old[name])
    ]
    names = ", ".join(sorted(wrong))
    return PropertyResult("state can be saved and carried on", not wrong,
                   f"changed or attached: {names}" if wrong else f"{len(new)} tensors",
                   "same names, shapes, types; detached")  # fmt: skip
