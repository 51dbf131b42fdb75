"""A program of updates compared with `train_step`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from ebmtrain.training.compiled.trace import clone_state
from ebmtrain.training.loop import StepRequest, StepResult, train_step
from ebmtrain.training.metrics import Metrics
from ebmtrain.training.state import TrainState

Program = Callable[[Sequence[StepRequest]], list[StepResult]]
"""Makes the updates of a group of runs, which have the same shapes."""


def verify(program: Program, group: Sequence[StepRequest]) -> None:
    """Compares the program with `train_step` on copies of the states.

    Rounding may decide the acceptance of a proposal, once in some thousand updates; so one of three
    updates of each member must agree completely.

    Raises:
        ValueError: a metric or tensor of a member differs by more than rounding.
    """
    plain = clone_requests(group)
    mismatches: dict[int, str] = dict.fromkeys(range(len(group)), "")
    for _ in range(3):
        before, others = clone_requests(plain), clone_requests(plain)
        for i, (metrics, _) in enumerate(program(others)):
            mismatch = _state_mismatch(plain[i], before[i].state, others[i].state, metrics)
            if mismatch is None:
                mismatches.pop(i, None)
            elif i in mismatches:
                mismatches[i] = mismatch
        if not mismatches:
            return
    member, mismatch = next(iter(mismatches.items()))
    if len(group) == 1:
        raise ValueError(f"the compiled update differs from the ordinary one in {mismatch}")
    raise ValueError(f"the update of member {member} differs from its ordinary one in {mismatch}")


def clone_requests(group: Sequence[StepRequest]) -> list[StepRequest]:
    """The same updates with copies of their states."""
    return [u._replace(state=clone_state(u.spec, u.state)) for u in group]


def _state_mismatch(
    update: StepRequest, before: TrainState, other: TrainState, metrics: Metrics
) -> str | None:
    """Makes the update with `train_step` and compares it with another result.

    Args:
        update: changes its state in place.
        before: copy of that state before the update.
        other, metrics: state and metrics after the other update.

    Returns:
        Name of a metric or tensor that differs by more than rounding, or "the weights"; None if all
        agree.
    """
    plain = update.state
    expected, _ = train_step(*update)
    pairs = {name: (value, metrics[name]) for name, value in expected.items()}
    pairs |= {name: (value, other.method[name]) for name, value in plain.method.items()}
    found = next((name for name, (a, b) in pairs.items() if not _allclose(a, b)), None)
    # An optimizer may amplify rounding in single weights: their common movement is compared.
    if not _parameter_distance(plain, other) <= 0.05 * _parameter_distance(plain, before) + 1e-6:
        found = found or "the weights"
    return found


def _allclose(a: Tensor, b: Tensor) -> bool:
    a, b = a.detach().double(), b.detach().double()
    if not a.numel():
        return True
    size = a.abs().nan_to_num(0.0, 0.0, 0.0).amax()
    return torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(size) + 1e-5, equal_nan=True)


def _parameter_distance(one: TrainState, other: TrainState) -> float:
    """Euclidean distance between the weights and their averages in two states."""

    def weights(state: TrainState) -> Iterable[Tensor]:
        yield from state.energy.parameters()
        yield from () if state.average is None else state.average.parameters()

    pairs = zip(weights(one), weights(other), strict=True)
    return float(sum((a - b).detach().double().square().sum() for a, b in pairs)) ** 0.5
