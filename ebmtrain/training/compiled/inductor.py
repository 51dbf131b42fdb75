"""Updates compiled by torch's inductor: `device.compile`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from ebmtrain.errors import reason
from ebmtrain.runtime.compiler_cache import use_disk_cache
from ebmtrain.runtime.devices import CompileOption
from ebmtrain.runtime.signals import interruptible
from ebmtrain.runtime.torch_private import compile_with_inductor
from ebmtrain.training.compiled.cuda_graph import Recorded, Recorder, Run, recorder
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
COMPILING_MESSAGE = "compiling the update: about a minute, less with a filled cache"
MAX_GRAPHS = 8  # one for each set of shapes; with more, compilation is abandoned
NOT_COMPILED = (
    "warning: device.compile: the update is not compiled and training goes on without (%s)"
)
# A first compilation takes 60 s, and each update saves 2 ms.
MIN_STEPS_TO_COMPILE = 30_000
# A program is selected by the shapes of its inputs, so it need not assert them. Precompiled headers
# are kept in /tmp/torchinductor_USER, which another user can create first.
_OPTIONS: dict[str, Any] = {"size_asserts": False, "cpp_cache_precompile_headers": False}
Program = Callable[[Sequence[StepRequest]], list[StepResult]]
"""Makes the updates of a group of runs, which have the same shapes."""


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
        self.programs: dict[Any, Program] = {}
        self.failed = False

    @property
    def compiled(self) -> bool:
        return not self.failed

    def __call__(
        self, spec: TrainSpec, state: TrainState, batch: Batch, weight: float | None
    ) -> StepResult:
        request = StepRequest(spec, state, batch, weight)
        if state.step == 0 or self.failed:
            return train_step(*request)
        key = shape_key(request)
        if key not in self.programs:
            try:
                with interruptible():
                    program = self.compile(request)
            except Exception as error:  # of a part, of torch or of the C++ compiler
                self.failed = True
                LOG.warning(NOT_COMPILED, reason(error))
                return train_step(*request)
            self.programs[key] = program
        return self.programs[key]([request])[0]

    def compile(self, request: StepRequest) -> Program:
        """The compiled update for the shapes of this batch and state, compared with `train_step`.

        Raises:
            Exception: of any kind, if the update cannot be traced or compiled, or differs.
        """
        check_graph_count(len(self.programs) + 1)
        if not self.programs:
            LOG.info(COMPILING_MESSAGE)
        began = time.perf_counter()
        use_disk_cache()
        update, state = trace_update(*request), request.state
        drawn = [draw.replay(_clone_generator(state.generator)) for draw in update.draws]
        inputs = graph_inputs(state, request.batch, request.weight, drawn)
        run = compile_graph(update.graph, [t.detach() for t in inputs])
        program = SingleGraph(update, run)
        verify(program, [request])
        if self.cuda_graph:
            record_cuda_graph(program, [request], recorder(state.diverged.device))
        LOG.info(
            "compiled the update in %.1f s (recompilations: %d)",
            time.perf_counter() - began, len(self.programs),
        )  # fmt: skip
        return program


def check_graph_count(count: int) -> None:
    """
    Raises:
        ValueError: there are more than MAX_GRAPHS.
    """
    if count > MAX_GRAPHS:
        raise ValueError(f"batch and state have had more than {MAX_GRAPHS} sets of shapes")


def shape_key(request: StepRequest) -> Any:
    """Shapes of the batch and of the method's state; there is one graph for each key."""
    shapes = tuple(part.shape for part in request.batch if part is not None)
    return shapes, *(value.shape for value in request.state.method.values())


def compile_graph(graph: GraphModule, examples: list[Tensor]) -> Callable[..., Any]:
    """The graph, compiled for tensors like these."""
    return compile_with_inductor(graph, examples, _OPTIONS)


def _clone_generator(generator: torch.Generator) -> torch.Generator:
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    return twin


@dataclass
class SingleGraph:
    """The update of one run by its graph, as `train_step` makes it."""

    update: UpdateGraph
    run: Run

    def __call__(self, group: Sequence[StepRequest]) -> list[StepResult]:
        (request,), update = group, self.update
        state = request.state
        drawn = [draw.replay(state.generator) for draw in update.draws]
        with torch.no_grad():
            vector, *new = self.run(*graph_inputs(state, request.batch, request.weight, drawn))
        state.method = state.method | dict(zip(update.replaced, new, strict=True))
        return [(Metrics(update.metrics, vector), update.points)]


def record_cuda_graph(program: Any, group: Sequence[StepRequest], record: Recorder | None) -> None:
    """Replaces `run` of a program with a graph by a recording, if the device has a recorder."""
    if record is None:
        return
    changed = mutated_inputs(program.update, group[0].state)
    program.run = recording = Recorded(program.run, changed, record)
    try:
        verify(program, group)
    except ValueError as error:
        recording.give_up(f"its replay: {error}")


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


def should_compile(wanted: CompileOption, spec: TrainSpec) -> bool:
    """Whether updates are compiled.

    `auto` depends only on the length of the run. With a measurement the load of the machine would
    decide about the bits of the result.
    """
    return spec.n_steps >= MIN_STEPS_TO_COMPILE if wanted == "auto" else bool(wanted)


def select(wanted: CompileOption, spec: TrainSpec) -> CompiledTrainStep | None:
    """The compiled update of a run; None: use `train_step`."""
    compiles = should_compile(wanted, spec)
    return CompiledTrainStep(cuda_graph=wanted == "cuda_graph") if compiles else None
