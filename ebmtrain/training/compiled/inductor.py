"""Updates compiled by torch's inductor: `device.compile`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from ebmtrain.errors import reason
from ebmtrain.runtime.compiler_cache import use_disk_cache
from ebmtrain.runtime.signals import interruptible
from ebmtrain.runtime.torch_private import compile_with_inductor
from ebmtrain.training.compiled.cuda_graph import (
    CudaGraphFunction,
    Recorder,
    TensorFunction,
    recorder,
)
from ebmtrain.training.compiled.trace import (
    UpdateGraph,
    graph_inputs,
    mutated_inputs,
    trace_update,
)
from ebmtrain.training.compiled.verify import Program, verify
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
# A program is selected by the shapes of its inputs, so it need not assert them. Precompiled headers
# are kept in /tmp/torchinductor_USER, which another user can create first.
_OPTIONS: dict[str, Any] = {"size_asserts": False, "cpp_cache_precompile_headers": False}


class CompiledTrainStep:
    """`train_step` as a graph compiled by torch's inductor.

    With `cuda_graph`, on an NVIDIA GPU, also captured as a CUDA graph: see `CudaGraphFunction`.

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
        numbers = [draw.replay(_clone_generator(state.generator)) for draw in update.draws]
        inputs = graph_inputs(state, request.batch, request.weight, numbers)
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
    copied = torch.Generator(generator.device)
    copied.set_state(generator.get_state())
    return copied


@dataclass
class SingleGraph:
    """The update of one run by its graph, as `train_step` makes it."""

    update: UpdateGraph
    run: TensorFunction

    def __call__(self, group: Sequence[StepRequest]) -> list[StepResult]:
        (request,), update = group, self.update
        state = request.state
        numbers = [draw.replay(state.generator) for draw in update.draws]
        with torch.no_grad():
            vector, *new = self.run(*graph_inputs(state, request.batch, request.weight, numbers))
        state.method = state.method | dict(zip(update.replaced, new, strict=True))
        return [(Metrics(update.metrics, vector), update.points)]


def record_cuda_graph(program: Any, group: Sequence[StepRequest], record: Recorder | None) -> None:
    """Replaces `run` of a program with a graph by a recording, if the device has a recorder."""
    if record is None:
        return
    changed = mutated_inputs(program.update, group[0].state)
    program.run = recording = CudaGraphFunction(program.run, changed, record)
    try:
        verify(program, group)
    except ValueError as error:
        recording.disable(f"its replay: {error}")
