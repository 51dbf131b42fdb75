"""Running a sampler: `run_chain` makes the steps of all chains in the package."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Generator, Tensor

from ebmtrain.score import freeze
from ebmtrain.types import (
    Adaptation,
    Energy,
    Jumps,
    ManySteps,
    Sampler,
    StepInfo,
    Tensors,
)

_MIN_CHAINS_TO_JUMP = 4  # two halves of at least two chains, for a difference


class Chain(NamedTuple):
    """The end of a run of chains."""

    x: Tensor
    """The last points, (batch, *event), detached."""
    adaptation_state: Tensors
    """State of the sampler's adaptation, for the next run; {}: it has none."""
    metrics: Tensors
    """The fields of `StepInfo` that the sampler reports (means over chains and steps), step_size
    and jump_acceptance, shape ()."""
    state: Any
    """The sampler's state, to continue from with the same energy."""


# The next three ask for a field by its name: to check a Protocol takes 9 us each, at every update.


def temperature_of(sampler: Sampler) -> float:
    """T of the sampler's target exp(-E / T); 1 for a sampler without a temperature."""
    return getattr(sampler, "temperature", 1.0)


def adaptation_of(sampler: Sampler) -> Adaptation | None:
    """The sampler's adaptation, applied between two runs of chains; None: it has none."""
    return getattr(sampler, "adaptation", None)


def jumps_of(sampler: Sampler) -> Jumps | None:
    """The sampler's moves between modes; None: it has none."""
    return getattr(sampler, "jumps", None)


def init_adaptation(sampler: Sampler, like: Tensor) -> Tensors:
    """State of the sampler's adaptation before its first run; {}: it has none."""
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
    """`n_steps` steps of one chain per row of x, all chains in parallel.

    During the run the energy is in eval mode and its parameters take no gradient. The sampler's
    adaptation, if any, is applied before the run and updated with the mean acceptance after it.

    Args:
        x: first points, (batch, *event); those of `state` if it is given.
        adaptation_state: from an earlier run; None: that of `init_adaptation`.
        state: of a run that ended in x on the same energy, to continue from, with the sampler's
            counters (position in its annealing) and velocities. None: the sampler's `init` at x.
    """
    if adaptation_state is None:
        adaptation_state = init_adaptation(sampler, x)
    adaptation = adaptation_of(sampler)
    kernel = sampler if adaptation is None else adaptation.apply(sampler, adaptation_state)
    with freeze(energy):
        state = kernel.init(energy, x) if state is None else state
        jumps = jumps_of(sampler) if len(x) >= _MIN_CHAINS_TO_JUMP else None
        state, infos, jump_rates = _run_steps(kernel, jumps, energy, state, n_steps, generator)
    metrics = {}
    for name, reports in zip(StepInfo._fields, zip(*infos, strict=True), strict=False):
        values = [value for value in reports if value is not None]
        if values:
            metrics[name] = torch.stack(values).mean()
    if jump_rates:
        metrics["jump_acceptance"] = torch.stack(jump_rates).mean()
    if adaptation is not None:
        acceptance = metrics.get("acceptance")
        adaptation_state = adaptation.update(adaptation_state, acceptance, state)
        if "step_size" in adaptation_state:
            metrics["step_size"] = adaptation_state["step_size"]
    return Chain(state.x, adaptation_state, metrics, state)


def _has_own_steps(kernel: Sampler) -> TypeGuard[ManySteps[Any]]:
    """True if `steps` and `step` are defined by the same class: a derived class may override `step`
    alone, and `steps` is then not its own."""
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
    """The state after `n_steps` steps, their reports, and the mean acceptance of each round of
    jumps.

    Uses the sampler's own `steps` if it has it: see `Sampler`.
    """
    if jumps is None and _has_own_steps(kernel):
        state, infos = kernel.steps(energy, state, n_steps, generator)
        return state, infos, []
    # At least one round per run, or chains that run a few steps at a time would never jump.
    rounds = 0 if jumps is None else max(1, n_steps // jumps.every)
    infos, jump_rates = [], []
    for done in range(1, n_steps + 1):
        state, info = kernel.step(energy, state, generator)
        infos.append(info)
        # Evenly spaced, the last round after the last step.
        if jumps is not None and done * rounds // n_steps > (done - 1) * rounds // n_steps:
            state, acceptance = jumps.move(kernel, energy, state, temperature_of(kernel), generator)
            jump_rates.append(acceptance)
    return state, infos, jump_rates
