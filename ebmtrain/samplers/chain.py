"""Runs a sampler: the one place where chains of any kind are stepped."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Generator, Tensor

from ebmtrain.score import frozen
from ebmtrain.types import (
    Adaptation,
    Energy,
    HasAdaptation,
    HasJumps,
    HasTemperature,
    Jumps,
    ManySteps,
    Sampler,
    StepInfo,
    Tensors,
)

_MIN_CHAINS_TO_JUMP = 4  # two halves, each with two chains to take a difference of


class Chain(NamedTuple):
    """What a run of chains ends with."""

    x: Tensor
    """The last points, (batch, *event), detached."""
    adaptation_state: Tensors
    """What the sampler's adaptation knows now; put it into the next run."""
    metrics: Tensors
    """Those that the sampler has of `StepInfo` (means over chains and steps), step_size and
    jump_acceptance; shape ()."""
    state: Any
    """The sampler's own, to go on from on the same energy."""


def temperature_of(sampler: Sampler) -> float:
    """T of the density exp(-E / T) that the sampler draws from; 1 for one that has none."""
    return sampler.temperature if isinstance(sampler, HasTemperature) else 1.0


def adaptation_of(sampler: Sampler) -> Adaptation | None:
    """What adjusts the sampler between two runs of chains; None: nothing does."""
    return sampler.adaptation if isinstance(sampler, HasAdaptation) else None


def jumps_of(sampler: Sampler) -> Jumps | None:
    """Moves between modes that chains of the sampler make; None: they make none."""
    return sampler.jumps if isinstance(sampler, HasJumps) else None


def init_adaptation(sampler: Sampler, like: Tensor) -> Tensors:
    """What the sampler's adaptation knows before its first run; {} without one."""
    adaptation = adaptation_of(sampler)
    return adaptation.start(sampler, like) if adaptation is not None else {}


@torch.no_grad()
def run_chain(
    sampler: Sampler,
    energy: Energy,
    x: Tensor,
    n_steps: int,
    generator: Generator,
    adaptation_state: Tensors | None = None,
    state: Any = None,
) -> Chain:
    """`n_steps` steps of one chain per row of x, all at once.

    The energy's parameters take no gradient meanwhile, and it is in eval mode. The sampler's
    adaptation, if it has one, is applied before the run and told the mean acceptance after it.

    Args:
        state: of a run that ended in x on this very energy, to go on from: what the sampler counts
            (where in its annealing it is) and remembers (velocities) goes on as well.
    """
    known = init_adaptation(sampler, x) if adaptation_state is None else adaptation_state
    adaptation = adaptation_of(sampler)
    kernel = sampler if adaptation is None else adaptation.apply(sampler, known)
    with frozen(energy):
        state = kernel.init(energy, x) if state is None else state
        jumps = jumps_of(sampler) if len(x) >= _MIN_CHAINS_TO_JUMP else None
        state, infos, jumped = _run_steps(kernel, jumps, energy, state, n_steps, generator)
    metrics = {}
    for name, reports in zip(StepInfo._fields, zip(*infos, strict=True), strict=False):
        values = [value for value in reports if value is not None]
        if values:
            metrics[name] = torch.stack(values).mean()
    if jumped:
        metrics["jump_acceptance"] = torch.stack(jumped).mean()
    if adaptation is not None:
        known = adaptation.update(known, metrics.get("acceptance"), state)
        if "step_size" in known:
            metrics["step_size"] = known["step_size"]
    return Chain(state.x, known, metrics, state)


def _has_own_steps(kernel: Sampler) -> TypeGuard[ManySteps[Any]]:
    """Whether it has `steps` that are those of its `step`, which a class derived from it may have
    replaced."""
    owners = [
        next((kind for kind in type(kernel).__mro__ if name in vars(kind)), None)
        for name in ("steps", "step")
    ]
    return owners[0] is not None and owners[0] is owners[1]


def _run_steps(
    kernel: Sampler,
    jumps: Jumps | None,
    energy: Energy,
    state: Any,
    n_steps: int,
    generator: Generator,
) -> tuple[Any, list[StepInfo], list[Tensor]]:
    """The state after so many steps, what they reported, and how many of the jumps were accepted.

    By the sampler's own `steps` where it has such: see `Sampler`.
    """
    if jumps is None and _has_own_steps(kernel):
        state, infos = kernel.steps(energy, state, n_steps, generator)
        return state, infos, []
    # A run shorter than that ends in one: chains run a few steps at a time would never jump.
    rounds = 0 if jumps is None else max(1, n_steps // jumps.every)
    infos, jumped = [], []
    for done in range(1, n_steps + 1):
        state, info = kernel.step(energy, state, generator)
        infos.append(info)
        # Spread evenly, the last round after the last step.
        if jumps is not None and done * rounds // n_steps > (done - 1) * rounds // n_steps:
            state, accepted = jumps.move(kernel, energy, state, temperature_of(kernel), generator)
            jumped.append(accepted)
    return state, infos, jumped
