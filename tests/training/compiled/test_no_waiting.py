"""An update never waits for the device: it reads no value and brings nothing from the host.

A GPU would have to finish all that it was given before. Operations that make a host wait for it are
refused here, on the CPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from same_state import differences
from test_inductor import CASES
from torch.utils._python_dispatch import TorchDispatchMode

from ebmtrain.config.build import build
from ebmtrain.training.compiled.inductor import CompiledTrainStep
from ebmtrain.training.compiled.trace import clone_state
from ebmtrain.training.loop import collect_metrics, run_step
from ebmtrain.training.state import initial_state

# Torch's compiler, to itself.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

aten = torch.ops.aten


class NoSynchronization(TorchDispatchMode):
    """Refuses what reads a value (`x.item()`, `if x:`), has a shape that values decide
    (`x[x > 0]`), or makes a tensor of numbers of the host (`torch.tensor(...)`, `x[[0, 1]]`)."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shaped = torch.Tag.dynamic_output_shape in func.tags
        if func is aten.index.Tensor:  # with whole numbers alone, its shape is known
            shaped = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if (
            shaped
            or torch.Tag.data_dependent_output in func.tags
            or func is aten.lift_fresh.default
        ):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


WAITING = {
    "item": lambda x: x[0].item(),
    "bool": lambda x: bool(x.sum() > 0),
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "equal": lambda x: torch.equal(x, x),
    "list": lambda x: x[[0, 1]],
    "tensor": lambda x: torch.tensor([1.0], device=x.device),
}


@pytest.mark.parametrize("name", WAITING)
def test_synchronizing_operations_are_detected(name):
    x = torch.arange(4.0)
    with NoSynchronization(), pytest.raises(AssertionError, match="waits for the device"):
        WAITING[name](x)


def warm(configured, words):
    """A training specification and its state after the first update, when all is in its place."""
    experiment = build(configured(*words.split(), "train.log_every=1000"))
    assert experiment.train_spec is not None
    state = initial_state(experiment.train_spec, experiment.energy, experiment.generator("train"))
    run_step(experiment.train_spec, state)
    return experiment.train_spec, state


@pytest.mark.slow
@pytest.mark.parametrize("words", CASES)
def test_an_update_does_not_synchronize(configured, words):
    """With the batch that it takes, and what the loop does between two rows."""
    spec, state = warm(configured, words)
    with NoSynchronization():
        for _ in range(3):
            assert collect_metrics(spec, state, run_step(spec, state), last=False) == {}
    assert state.step == 4


@pytest.mark.slow
@pytest.mark.usefixtures("compiler_cache")
def test_a_compiled_update_does_not_synchronize(configured, lines):
    spec, state = warm(configured, "sampler=langevin method.k=2 model.depth=1")
    stepper = CompiledTrainStep()
    run_step(spec, state, stepper)
    other = clone_state(spec, state)
    with NoSynchronization():
        for _ in range(3):
            assert collect_metrics(spec, state, run_step(spec, state, stepper), last=False) == {}
    for _ in range(3):
        run_step(spec, other, stepper)
    assert differences(state.energy.state_dict(), other.energy.state_dict()) == []
    assert [line for line in lines() if line.startswith("warning")] == []
