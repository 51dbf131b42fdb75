"""Updates compiled by torch's inductor: `device.compile`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from ebmtrain.errors import reason
from ebmtrain.runtime.compiler_cache import use_disk_cache
from ebmtrain.runtime.devices import CompileOption
from ebmtrain.runtime.signals import block_signals
from ebmtrain.runtime.torch_private import compile_with_inductor
from ebmtrain.training.compiled.cuda_graph import Recorded, Run, recorder
from ebmtrain.training.compiled.trace import (
    UpdateGraph,
    clone_state,
    graph_inputs,
    mutated_inputs,
    trace_update,
)
from ebmtrain.training.loop import StepRequest, StepResult, train_step
from ebmtrain.training.metrics import Metrics
from ebmtrain.training.state import TrainSpec, TrainState
from ebmtrain.types import Batch

LOG = logging.getLogger("ebmtrain")
COMPILING_MESSAGE = (
    "compiling the update: a minute or so, less where the cache knows it; signals wait for the end"
)
MAX_GRAPHS = 8  # one for each set of shapes; with more, compilation is abandoned
# A first compilation takes 60 s, and each update saves 2 ms.
MIN_STEPS_TO_COMPILE = 30_000
# A program is selected by the shapes of its inputs, so it need not assert them.
_OPTIONS: dict[str, Any] = {"size_asserts": False}
_Program = Callable[[TrainState, Batch, float | None], StepResult]


class CompiledTrainStep:
    """`train_step` as a graph compiled by torch's inductor.

    With `cuda_graph`, on an NVIDIA GPU, also captured as a CUDA graph: see `cuda_graph.Recorded`.

    The first update is never compiled: before it an optimizer has no moments. Each graph is
    compared with `train_step` before it is used. If any of this fails, a warning says so and
    training continues without a compiler. Results differ from those without by rounding. A resumed
    run compiles again and makes the same updates.
    """

    def __init__(self, *, cuda_graph: bool = False) -> None:
        self.cuda_graph = cuda_graph
        self.programs: dict[Any, _Program] = {}
        self.failed = False

    @property
    def compiled(self) -> bool:
        return not self.failed

    def __call__(
        self, spec: TrainSpec, state: TrainState, batch: Batch, weight: float | None
    ) -> StepResult:
        if state.step == 0 or self.failed:
            return train_step(spec, state, batch, weight)
        key = shape_key(batch, state)
        if key not in self.programs:
            try:
                with block_signals():
                    self.programs[key] = self.compile(spec, state, batch, weight)
            except Exception as error:  # of a part, of torch or of the C++ compiler
                self.failed = True
                LOG.warning(
                    "warning: device.compile: the update is not compiled and training goes on "
                    "without (%s)", reason(error),
                )  # fmt: skip
                return train_step(spec, state, batch, weight)
        return self.programs[key](state, batch, weight)

    def compile(
        self, spec: TrainSpec, state: TrainState, batch: Batch, weight: float | None
    ) -> _Program:
        """The compiled update for the shapes of this batch and state, compared with `train_step`.

        Raises:
            Exception: of any kind, if the update cannot be traced or compiled, or differs.
        """
        if len(self.programs) == MAX_GRAPHS:
            raise ValueError(f"batch and state have had more than {MAX_GRAPHS} sets of shapes")
        if not self.programs:
            LOG.info(COMPILING_MESSAGE)
        began = time.perf_counter()
        use_disk_cache()
        update = trace_update(spec, state, batch, weight)
        run = _compile_update(update, state, batch, weight)
        program = _program_from(update, run)
        mismatch = _mismatch(spec, state, batch, weight, program)
        if mismatch:
            raise ValueError(f"the compiled update differs from the ordinary one in {mismatch}")
        if self.cuda_graph and (record := recorder(state.diverged.device)):
            recording = Recorded(run, mutated_inputs(update, state), record)
            program = _program_from(update, recording)
            if mismatch := _mismatch(spec, state, batch, weight, program):
                recording.give_up(f"its replay differs from the ordinary update in {mismatch}")
        LOG.info(
            "compiled the update in %.1f s (recompilations: %d)",
            time.perf_counter() - began, len(self.programs),
        )  # fmt: skip
        return program


def shape_key(batch: Batch, state: TrainState) -> Any:
    """Shapes of the batch and of the method's state; there is one graph for each key."""
    shapes = tuple(part.shape for part in batch if part is not None)
    return shapes, *(value.shape for value in state.method.values())


def compile_graph(graph: GraphModule, examples: list[Tensor]) -> Callable[..., Any]:
    """The graph, compiled for tensors like these."""
    return compile_with_inductor(graph, examples, _OPTIONS)


def _compile_update(
    update: UpdateGraph, state: TrainState, batch: Batch, weight: float | None
) -> Run:
    drawn = [draw.replay(_clone_generator(state.generator)) for draw in update.draws]
    return compile_graph(
        update.graph, [t.detach() for t in graph_inputs(state, batch, weight, drawn)]
    )


def _program_from(update: UpdateGraph, run: Run) -> _Program:
    """A function that makes the update as `train_step` does.

    Args:
        run: executes the update's graph.
    """

    def program(state: TrainState, batch: Batch, weight: float | None) -> StepResult:
        drawn = [draw.replay(state.generator) for draw in update.draws]
        with torch.no_grad():
            vector, *new = run(*graph_inputs(state, batch, weight, drawn))
        state.method = state.method | dict(zip(update.replaced, new, strict=True))
        return Metrics(update.metrics, vector), update.points

    return program


def _clone_generator(generator: torch.Generator) -> torch.Generator:
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    return twin


def _mismatch(
    spec: TrainSpec,
    state: TrainState,
    batch: Batch,
    weight: float | None,
    program: Callable[..., Any],
) -> str | None:
    """Name of a result that differs by more than rounding between the program and `train_step`;
    None if all agree.

    Rounding may decide the acceptance of a proposal, once in some thousand updates; so one of three
    updates must agree completely.
    """
    found = None
    plain = clone_state(spec, state)
    for _ in range(3):
        before, other = clone_state(spec, plain), clone_state(spec, plain)
        metrics, _ = program(other, batch, weight)
        found = state_mismatch(StepRequest(spec, plain, batch, weight), before, other, metrics)
        if found is None:
            return None
    return found


def state_mismatch(
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


def should_compile(wanted: CompileOption, spec: TrainSpec) -> bool:
    """Whether updates are compiled.

    `auto` depends only on the length of the run. With a measurement the load of the machine would
    decide about the bits of the result.
    """
    return spec.n_steps >= MIN_STEPS_TO_COMPILE if wanted == "auto" else bool(wanted)


def select(wanted: CompileOption, spec: TrainSpec) -> CompiledTrainStep | None:
    """The compiled update of a run; None: use `train_step`."""
    if not should_compile(wanted, spec):
        return None
    return CompiledTrainStep(cuda_graph=wanted == "cuda_graph")
