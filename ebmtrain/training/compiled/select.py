"""Which function makes the updates: `device.compile`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from ebmtrain.runtime.devices import CompileOption
from ebmtrain.training.compiled.inductor import CompiledTrainStep
from ebmtrain.training.compiled.vmap import VmapTrainStep
from ebmtrain.training.state import TrainSpec

# A first compilation takes 60 s, and each update saves 2 ms.
MIN_STEPS_TO_COMPILE = 30_000


def _should_compile(wanted: CompileOption, spec: TrainSpec) -> bool:
    """Whether updates are compiled.

    `auto` depends only on the length of the run. With a measurement the load of the machine would
    decide about the bits of the result.
    """
    return spec.n_steps >= MIN_STEPS_TO_COMPILE if wanted == "auto" else bool(wanted)


def select_stepper(wanted: CompileOption, spec: TrainSpec) -> CompiledTrainStep | None:
    """The compiled update of a run; None: `train_step`."""
    compiles = _should_compile(wanted, spec) and spec.shards.total == 1
    return CompiledTrainStep(cuda_graph=wanted == "cuda_graph") if compiles else None


def select_ensemble_stepper(
    wanted: CompileOption,
    spec: TrainSpec,
    interruptible: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> VmapTrainStep:
    """The common update of the members of an ensemble; `spec` is that of any of them."""
    return VmapTrainStep(
        compile=_should_compile(wanted, spec),
        cuda_graph=wanted == "cuda_graph",
        interruptible=interruptible,
    )
