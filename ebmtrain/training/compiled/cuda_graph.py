"""An update recorded once and played again: on NVIDIA's GPUs one launch instead of some hundred.

A recording knows addresses and no values. So what it reads and writes has to lie where it lay when
it was made, and everything that comes anew with each update is copied there first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from ebmtrain.errors import reason

LOG = logging.getLogger("ebmtrain")
Run = Callable[..., Sequence[Tensor]]
_Player = Callable[[], Sequence[Tensor]]
"""Does it again, with the same tensors: reads the inputs where they are, overwrites the outputs."""

_Recorder = Callable[[Run, Sequence[Tensor], Collection[int]], _Player]
"""Takes what is to be recorded, its inputs, and which of them it changes, as of `Recorded`. May run
it, but leaves the inputs as they are."""


class Recorded:
    """Does what `run` does, by a recording of it.

    Inputs that are changed in place are used where they are. Where one of them has moved, as an
    optimizer's moments do when a checkpoint is loaded, it is recorded anew. All others are copied
    into tensors of the recording, and the outputs out of it, as the next update overwrites them.

    Where it cannot be recorded, one warning says so and `run` is called as it is.

    Args:
        run: takes tensors, gives tensors; shapes and types are the same in each call.
        changed: which of the inputs it may change in place, counted from 0.
    """

    def __init__(self, run: Run, changed: Collection[int], record: _Recorder) -> None:
        self.run = run
        self.changed = frozenset(changed)
        self.record = record
        self.inputs: list[Tensor] = []
        """Those of the recording, which also keeps their memory from being given to others."""
        self.places: list[int] = []
        self.play: _Player | None = None
        self.failed = False

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        places = [inputs[i].data_ptr() for i in self.changed]
        if not self.failed and (self.play is None or places != self.places):
            self.begin(inputs, places)
        if self.play is None:
            return self.run(*inputs)
        self.copy_in(inputs)
        return [output.clone() for output in self.play()]

    def begin(self, inputs: Sequence[Tensor], places: list[int]) -> None:
        """A recording of its own for inputs at these places."""
        self.play = None  # its memory goes before the next one's comes
        self.inputs = [
            x.detach() if i in self.changed else x.detach().clone() for i, x in enumerate(inputs)
        ]
        try:
            self.play, self.places = self.record(self.run, self.inputs, self.changed), places
        except Exception as error:  # of torch or of the driver
            self.give_up(reason(error))

    def copy_in(self, inputs: Sequence[Tensor]) -> None:
        """Many at once, those of a type together: each by itself would be a launch of its own."""
        kinds: dict[torch.dtype, list[int]] = {}
        for i in range(len(inputs)):
            if i not in self.changed:
                kinds.setdefault(inputs[i].dtype, []).append(i)
        for same in kinds.values():
            there = [self.inputs[i] for i in same]
            torch._foreach_copy_(there, [inputs[i] for i in same])  # type: ignore

    def give_up(self, why: str) -> None:
        self.failed, self.play, self.inputs = True, None, []
        LOG.warning(
            "warning: device.compile: the compiled update is not recorded as a CUDA graph and "
            "training goes on without (%s)", why,
        )  # fmt: skip


def apart(inputs: Sequence[Tensor], changed: Collection[int]) -> list[Tensor]:
    """Inputs for a trial: of those that it changes, copies."""
    return [x.clone() if i in changed else x for i, x in enumerate(inputs)]


def cuda_graph(run: Run, inputs: Sequence[Tensor], changed: Collection[int]) -> _Player:
    """A `_Recorder`.

    Raises:
        ValueError: some input is on another device, where nothing is recorded.
        RuntimeError: something in it waits for the device, or the memory does not suffice.
    """
    if not all(x.is_cuda for x in inputs):
        raise ValueError("not everything that it takes is on the GPU")
    # A stream that no other recording has: torch keeps one workspace for the products of a stream,
    # and gives it away with the first of its recordings that goes. (It hands out 32 in turn.)
    stream, before = torch.cuda.Stream(), torch.cuda.current_stream()
    graph = torch.cuda.CUDAGraph()
    stream.wait_stream(before)
    with torch.cuda.stream(stream):  # which `graph` by itself would not leave after a failure
        # Libraries set themselves up and kernels are loaded when first used, on each stream; while
        # it is recorded they may not.
        run(*apart(inputs, changed))
        # Other threads, say of a display, may do what they like meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = run(*inputs)
    before.wait_stream(stream)

    def play() -> Sequence[Tensor]:
        graph.replay()
        return outputs

    return play


def recorder(device: torch.device) -> _Recorder | None:
    """What records on this device; None: nothing does."""
    return cuda_graph if device.type == "cuda" else None
