"""`ebmtrain check [key=value ...]`: composes, validates, builds and makes a few updates. Writes
nothing."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ebmtrain.cli.arguments import compose_arguments
from ebmtrain.config.ensemble import build_members
from ebmtrain.config.presets import group_choices

if TYPE_CHECKING:
    from ebmtrain.runtime.devices import CompileOption
    from ebmtrain.training.state import TrainSpec, TrainState

_N_WARM_UP, _N_TIMED = 2, 3  # updates; the first ones compile and fill caches


def main(arguments: list[str]) -> int:
    config = compose_arguments(arguments)

    from ebmtrain.runs.summary import opening_lines
    from ebmtrain.runtime import native
    from ebmtrain.training.divergence import check_divergence
    from ebmtrain.training.state import initial_state

    members = build_members(config)
    for line in opening_lines(members[0], group_choices(config.hydra.runtime.choices)):
        print(line)
    spec = members[0].train_spec
    if spec is not None and spec.n_steps > 0:
        states = [
            (m.train_spec, initial_state(m.train_spec, m.energy, m.generator("train")))
            for m in members
            if m.train_spec
        ]
        step = _step_function(states, members[0].compile)
        times = [time.perf_counter()]
        for _ in range(_N_WARM_UP + _N_TIMED):
            step()
            times.append(time.perf_counter())
        durations = [end - start for start, end in itertools.pairwise(times)]
        seconds = statistics.median(durations[_N_WARM_UP:])
        for one, state in states:
            check_divergence(one, state)
        whose = f" of {len(members)} members" if len(members) > 1 else ""
        total = seconds * spec.n_steps
        print(f"one step{whose} {1e3 * seconds:.1f} ms, training about {total:.0f} s")
    for line in native.rejections():
        print(line)
    print("ok")
    return 0


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
