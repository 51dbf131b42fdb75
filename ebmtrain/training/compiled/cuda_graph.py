"""An update captured as a CUDA graph: on NVIDIA GPUs one launch instead of about a hundred.

A CUDA graph reads and writes fixed addresses. Tensors that an update changes in place must stay at
their addresses, and all other inputs are copied into the graph's tensors before each replay.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from ebmtrain.errors import reason
from ebmtrain.runtime.torch_private import foreach_copy

LOG = logging.getLogger("ebmtrain")
TensorFunction = Callable[..., Sequence[Tensor]]
Replay = Callable[[], Sequence[Tensor]]
"""Replays the update: reads the inputs from the same tensors and overwrites the outputs."""

Recorder = Callable[[TensorFunction, Sequence[Tensor], Collection[int]], Replay]
"""Records a function, given its inputs and the indices of those that it changes. It may run the
function, but leaves the inputs as they are."""


class CudaGraphFunction:
    """A function with the results of `run`, by replaying a recording of it.

    Inputs that are changed in place are used at their addresses. If an address changes, as those of
    an optimizer's moments do when a checkpoint is loaded, the function is recorded again. All other
    inputs are copied into tensors of the recording, and the outputs are copied, since the next
    replay overwrites them.

    If recording fails, a warning says so and `run` is called instead.

    Args:
        run: maps tensors to tensors; shapes and types are the same in each call.
        changed: indices of the inputs that it may change in place.
        record: makes a recording.
    """

    def __init__(self, run: TensorFunction, changed: Collection[int], record: Recorder) -> None:
        self.run = run
        self.changed = frozenset(changed)
        self.record = record
        self.inputs: list[Tensor] = []
        """Inputs of the recording; the references keep their memory from being reused."""
        self.addresses: list[int] = []
        self.replay: Replay | None = None
        self.failed = False

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        addresses = [inputs[i].data_ptr() for i in self.changed]
        if not self.failed and (self.replay is None or addresses != self.addresses):
            self.capture(inputs, addresses)
        if self.replay is None:
            return self.run(*inputs)
        self.copy_in(inputs)
        return [output.clone() for output in self.replay()]

    def capture(self, inputs: Sequence[Tensor], addresses: list[int]) -> None:
        """Records the function for changed inputs at these addresses."""
        self.replay = None  # free its memory before the next recording allocates
        self.inputs = [
            x.detach() if i in self.changed else x.detach().clone() for i, x in enumerate(inputs)
        ]
        try:
            self.replay, self.addresses = (
                self.record(self.run, self.inputs, self.changed),
                addresses,
            )
        except Exception as error:  # of torch or of the driver
            self.disable(reason(error))

    def copy_in(self, inputs: Sequence[Tensor]) -> None:
        """Copies the inputs that are not changed in place, in one launch for each type."""
        groups: dict[torch.dtype, list[int]] = {}
        for i in range(len(inputs)):
            if i not in self.changed:
                groups.setdefault(inputs[i].dtype, []).append(i)
        for group in groups.values():
            targets = [self.inputs[i] for i in group]
            foreach_copy(targets, [inputs[i] for i in group])

    def disable(self, why: str) -> None:
        """Warns, and calls `run` from now on."""
        self.failed, self.replay, self.inputs = True, None, []
        LOG.warning(
            "warning: device.compile: the compiled update is not recorded as a CUDA graph and "
            "training goes on without (%s)", why,
        )  # fmt: skip


def _clone_changed(inputs: Sequence[Tensor], changed: Collection[int]) -> list[Tensor]:
    """The inputs, with copies of those that a run changes."""
    return [x.clone() if i in changed else x for i, x in enumerate(inputs)]


def cuda_graph(run: TensorFunction, inputs: Sequence[Tensor], changed: Collection[int]) -> Replay:
    """Captures `run` as a CUDA graph; returns the function that replays it.

    Raises:
        ValueError: an input is not on the GPU.
        RuntimeError: an operation waits for the device, or the memory does not suffice.
    """
    if not all(x.is_cuda for x in inputs):
        raise ValueError("not all of its inputs are on the GPU")
    # A separate stream: torch keeps one workspace for the matrix products of a stream and frees it
    # with the first of the stream's recordings. (Torch cycles through 32 streams.)
    stream, before = torch.cuda.Stream(), torch.cuda.current_stream()
    graph = torch.cuda.CUDAGraph()
    stream.wait_stream(before)
    with torch.cuda.stream(stream):  # `torch.cuda.graph` does not leave the stream after a failure
        # Libraries initialize themselves and kernels are loaded at first use on each stream, which
        # is not allowed during capture.
        run(*_clone_changed(inputs, changed))
        # thread_local: other threads may use the GPU in the meantime.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = run(*inputs)
    before.wait_stream(stream)

    def replay() -> Sequence[Tensor]:
        graph.replay()
        return outputs

    return replay


def recorder(device: torch.device) -> Recorder | None:
    """The recorder for this device; None if there is none."""
    return cuda_graph if device.type == "cuda" else None
