"""`ebmtrain check [key=value ...]`: compose, validate, build, some steps. Writes nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ebmtrain.cli.arguments import parse_overrides
from ebmtrain.config import presets
from ebmtrain.config.ensemble import build_members

if TYPE_CHECKING:
    from ebmtrain.runtime.devices import CompileOption
    from ebmtrain.training.state import TrainSpec, TrainState


def main(arguments: list[str]) -> int:
    overrides, folder = parse_overrides(arguments)
    presets.extend_import_path(folder)
    chosen = presets.Presets(user=folder)
    config = chosen.compose(overrides)

    from ebmtrain.runs.summary import opening_lines
    from ebmtrain.runtime import native
    from ebmtrain.training.divergence import check_divergence
    from ebmtrain.training.state import initial_state

    chosen.check_targets(config)
    members = build_members(config)
    for line in opening_lines(members[0], presets.group_choices(config.hydra.runtime.choices)):
        print(line)
    spec = members[0].train_spec
    if spec is not None and spec.n_steps > 0:
        begun = [
            (m.train_spec, initial_state(m.train_spec, m.energy, m.generator("train")))
            for m in members
            if m.train_spec
        ]
        step = _step_function(begun, members[0].compile)
        for _ in range(2):  # they warm up caches and allocators, and compile
            step()
        seconds = statistics.median(_duration_s(step) for _ in range(3))
        for one, state in begun:
            check_divergence(one, state)
        whose = f" of {len(members)} members" if len(members) > 1 else ""
        print(
            f"one step{whose} {1e3 * seconds:.1f} ms, training about {seconds * spec.n_steps:.0f} s"
        )
    for line in native.rejections():
        print(line)
    print("ok")
    return 0


def _duration_s(step: Callable[[], None]) -> float:
    """In seconds."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _step_function(
    begun: list[tuple[TrainSpec, TrainState]], compiles: CompileOption
) -> Callable[[], None]:
    """What makes one update of each of these."""
    from ebmtrain.training.compiled.inductor import select, should_compile
    from ebmtrain.training.compiled.vmap import VmapTrainStep
    from ebmtrain.training.loop import request_step, run_interleaved, run_step

    spec, state = begun[0]
    if len(begun) == 1:
        stepper = select(compiles, spec)

        def one() -> None:
            run_step(spec, state, stepper)

        return one
    together = VmapTrainStep(
        compile=should_compile(compiles, spec), cuda_graph=compiles == "cuda_graph"
    )

    def ended(_: int, found: object) -> None:
        if isinstance(found, Exception):
            raise found

    return lambda: run_interleaved([request_step(*one) for one in begun], together, ended)
