"""`ebmtrain check [key=value ...]`: composes, validates, builds and makes a few updates. Writes
nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ebmtrain.cli.compose import compose_arguments
from ebmtrain.config.ensemble import build_members
from ebmtrain.config.presets import group_choices

if TYPE_CHECKING:
    from ebmtrain.runtime.devices import CompileOption
    from ebmtrain.training.state import TrainSpec, TrainState

_N_WARM_UP, _N_TIMED = 2, 3  # updates; the first ones compile and fill caches
_MAX_SECONDS = 10.0  # after which no further update is made
_SLOW_SECONDS = 1.0  # of an update that is reported
_N_FEW_POINTS = 8


def main(arguments: list[str]) -> int:
    config = compose_arguments(arguments)

    from ebmtrain.runs.costs import cost_lines
    from ebmtrain.runs.initial_weights import with_initial_weights
    from ebmtrain.runs.summary import opening_lines
    from ebmtrain.runtime import native
    from ebmtrain.training.divergence import check_divergence
    from ebmtrain.training.state import initial_state

    members = [with_initial_weights(member) for member in build_members(config)]
    lines = opening_lines(members[0], group_choices(config.hydra.runtime.choices))
    print("\n".join(lines), flush=True)
    spec = members[0].train_spec
    if spec is not None and spec.n_steps > 0:
        states = [
            (m.train_spec, initial_state(m.train_spec, m.energy, m.generator("train")))
            for m in members
            if m.train_spec
        ]
        _announce_slow_update(*states[0])
        step = _step_function(states, members[0].compile)
        seconds = _seconds_per_step(step)
        for one, state in states:
            check_divergence(one, state)
        whose = f" of {len(members)} members" if len(members) > 1 else ""
        total = seconds * spec.n_steps
        print(f"one step{whose} {1e3 * seconds:.1f} ms, training about {total:.0f} s")
        for line in cost_lines(members[0], members[0].energy, total / len(members)):
            print(line + (" of each member" if whose else ""))
    for line in native.rejections():
        print(line)
    print("ok")
    return 0


def _announce_slow_update(spec: TrainSpec, state: TrainState) -> None:
    """Says how long an update may take if it takes seconds, from updates with few points."""
    from ebmtrain.training.loop import run_step

    few = replace(spec, batch_size=min(_N_FEW_POINTS, spec.batch_size))
    run_step(few, state)  # fills caches
    began = time.perf_counter()
    run_step(few, state)
    seconds = (time.perf_counter() - began) * spec.batch_size / few.batch_size
    if seconds > _SLOW_SECONDS:
        print(f"an update takes about {seconds:.0f} s, which is being measured", flush=True)


def _seconds_per_step(step: Callable[[], object]) -> float:
    """Time of an update after the first ones, or of the last of few; slow ones are reported."""
    durations: list[float] = []
    while len(durations) < _N_WARM_UP + _N_TIMED and sum(durations) < _MAX_SECONDS:
        began = time.perf_counter()
        step()
        durations.append(time.perf_counter() - began)
        if durations[-1] > _SLOW_SECONDS:
            print(f"update {len(durations)} took {durations[-1]:.1f} s", flush=True)
    return statistics.median(durations[_N_WARM_UP:] or durations[-1:])


def _step_function(
    states: list[tuple[TrainSpec, TrainState]], compiles: CompileOption
) -> Callable[[], object]:
    """A function that makes one update of each state."""
    from ebmtrain.training.compiled.select import select_ensemble_stepper, select_stepper
    from ebmtrain.training.loop import request_step, run_interleaved, run_step

    spec, state = states[0]
    if len(states) == 1:
        stepper = select_stepper(compiles, spec)
        return lambda: run_step(spec, state, stepper)
    batched = select_ensemble_stepper(compiles, spec)

    def on_end(_: int, result: object) -> None:
        if isinstance(result, Exception):
            raise result

    return lambda: run_interleaved([request_step(*one) for one in states], batched, on_end)
