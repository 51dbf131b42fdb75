"""Laws of a training objective: it pulls to where it should, and does nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ebmtrain.laws.finding import Finding, not_to_be_tried, seeded
from ebmtrain.types import Batch, Method, Tensors

_WARM = 60  # updates of chains and of constants at a fixed energy before its slope is measured
_MEASURED = 60  # at first; as many again as it takes to tell the sign, up to _MOST
_MOST = 4_000
_SIGMAS = 4.0
BELOW, ABOVE = 0.6, 1.6
"""Precisions between which the optimum for unit Gaussian data must lie. Wide enough for blur
(denoising), regularisation and chains without rejection; a wrong sign, a missing trace or a factor
of 2 lies outside."""


class Quadratic(nn.Module):
    """E(x) = a ||x||^2 / 2: for points of N(0, I), maximum likelihood is at a = 1."""

    def __init__(self, a: float):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x.flatten(1).square().sum(1) / 2


def laws_of_methods(
    method: Method, energy: nn.Module, x: Tensor, size: int = 256
) -> Iterator[Finding]:
    """Args:
    energy: the user's.
    x: standardized training points, (n, *event).
    size: of a batch.
    """
    yield from optimum(method, size)
    yield from one_update(method, energy, x, size)


def optimum(method: Method, size: int) -> Iterator[Finding]:
    """dL/da < 0 below the optimum and > 0 above it, on average over updates."""
    law = "loss has its optimum where it should"
    try:
        slopes = {a: slope_at(method, a, size) for a in (BELOW, ABOVE)}
    except (TypeError, AttributeError, ValueError, RuntimeError) as error:
        yield not_to_be_tried(law, f"the method does not take E = a ||x||^2 / 2: {error}")
        return
    (low, low_error), (high, high_error) = slopes[BELOW], slopes[ABOVE]
    yield Finding(
        law, low < -_SIGMAS * low_error and high > _SIGMAS * high_error,
        f"dL/da {low:+.3f} +- {low_error:.3f} at a = {BELOW}, {high:+.3f} +- {high_error:.3f} at"
        f" a = {ABOVE}",
        "< 0, > 0",
    )  # fmt: skip


def slope_at(method: Method, a: float, size: int) -> tuple[float, float]:
    """Mean and standard error of dL/da over updates whose chains and constants have settled."""
    energy, generator = Quadratic(a), seeded(1)
    data = torch.randn(20 * size, 2, generator=seeded(2))
    state = method.init(data, generator)
    learnt = [value for value in state.values() if value.requires_grad]
    settle = torch.optim.Adam(learnt, lr=0.1) if learnt else None
    slopes: list[float] = []
    i = 0
    while not (len(slopes) >= _MEASURED and len(slopes) % _MEASURED == 0
               and (len(slopes) >= _MOST or decided(slopes))):  # fmt: skip
        x = data[torch.randint(len(data), (size,), generator=generator)]
        out = method.loss(energy, Batch(x), state, generator)
        energy.a.grad = None
        out.loss.backward()
        if settle is not None:
            settle.step()
            settle.zero_grad()
        state = out.state
        i += 1
        if i > _WARM:
            slopes.append(float(energy.a.grad))  # type: ignore[arg-type]
    return mean_and_error(slopes)


def mean_and_error(slopes: list[float]) -> tuple[float, float]:
    """Persistent chains make neighbours alike: means of blocks are nearly independent."""
    blocks = torch.tensor(slopes).view(12, -1).mean(1)
    return float(blocks.mean()), float(blocks.std() / len(blocks) ** 0.5)


def decided(slopes: list[float]) -> bool:
    mean, error = mean_and_error(slopes)
    return abs(mean) > 2 * _SIGMAS * error


def one_update(method: Method, energy: nn.Module, x: Tensor, size: int) -> Iterator[Finding]:
    """On the user's own energy and points."""
    energy = copy.deepcopy(energy).train()
    batch, world = x[:size].clone(), torch.get_rng_state()
    state = method.init(x, seeded(3))
    old = {name: value.detach().clone() for name, value in state.items()}
    out = method.loss(energy, Batch(batch), state, seeded(4))
    polluted = any(p.grad is not None for p in energy.parameters())
    again = method.loss(energy, Batch(batch), state, seeded(4)).loss
    same = torch.equal(out.loss, again)
    wrong = {
        "the batch changed": not torch.equal(batch, x[:size]),
        "the old state changed": any(not torch.equal(old[n], v) for n, v in state.items()),
        "torch's global generator was used": not torch.equal(torch.get_rng_state(), world),
        "the same generator gives another loss": not same,
        "gradients arrive before backward()": polluted,
    }
    found = [name for name, broken in wrong.items() if broken]
    yield Finding("loss depends on its arguments alone and changes none", not found,
                  "; ".join(found) or "so it is", "nothing else")  # fmt: skip
    yield reaches(out.loss, energy)
    yield can_be_saved(out.state, state)


def reaches(loss: Tensor, energy: nn.Module) -> Finding:
    law = "loss is finite and moves the parameters"
    if not loss.requires_grad:
        return Finding(law, False, "the loss has no gradient", "finite, some slope")
    try:
        loss.backward()
    except RuntimeError as error:  # say, the batch was changed in place
        return Finding(law, False, str(error)[:100], "finite, some slope")
    norms = [p.grad.norm() for p in energy.parameters() if p.grad is not None]
    size = float(torch.stack(norms).norm()) if norms else 0.0
    holds = bool(loss.isfinite()) and 0 < size < float("inf")
    return Finding(law, holds, f"loss {loss.item():.4g}, gradient {size:.3g}", "finite, > 0")


def can_be_saved(new: Tensors, old: Tensors) -> Finding:
    """Same names, shapes and types as before; without a graph, unless it is trained itself."""
    wrong = [name for name in {*new, *old} if name not in new or name not in old]
    wrong += [
        name
        for name in {*new} & {*old}
        if (new[name].shape, new[name].dtype) != (old[name].shape, old[name].dtype)
        or (new[name].requires_grad and new[name] is not old[name])
    ]
    names = ", ".join(sorted(wrong))
    return Finding("state can be saved and carried on", not wrong,
                   f"changed or attached: {names}" if wrong else f"{len(new)} tensors",
                   "same names, shapes, types; detached")  # fmt: skip
