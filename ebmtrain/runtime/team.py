"""Several processes that train one model: who says what is done, and what they exchange.

Process 0 leads: before everything that all take part in it sends a command, and the others do
nothing else than follow. Commands go over gloo on the CPU, tensors of the device over NCCL.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.nn.functional import pad

from ebmtrain.errors import ProcessError
from ebmtrain.runtime.processes import Rank

STEP, GATHER, LOAD, END = range(1, 5)
"""Commands: make one update; gather the shards' states; load a state; nothing follows."""

_JOB, _RUN = "ebmtrain/job", "ebmtrain/run"
_POLL_S = 0.02
_REPLY_S = 2.0  # within which a process that waits too reports that it is alive


class Team:
    """The processes that torchrun started for one run.

    torchrun's own store, which outlives a process that is killed and started again, has the job,
    and the run directory of an earlier attempt. Each attempt connects under a token of its own.

    Args:
        place: of this process.
    """

    def __init__(self, place: Rank):
        self.rank, self.size = place.rank, place.size
        self.signal = 0
        """Number of a termination signal that one of the processes received; 0: none did."""
        self._patience = 0.0
        self._token = ""
        self._busy = False
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        self.store = dist.TCPStore(host, port, is_master=False)  # type: ignore[attr-defined]

    # The start of an attempt

    @property
    def run(self) -> str | None:
        """The run directory of an earlier attempt; None: there is none."""
        return self.store.get(_RUN).decode() if self.store.check([_RUN]) else None

    @run.setter
    def run(self, path: str) -> None:
        self.store.set(_RUN, path)

    def dismiss(self) -> None:
        """Tells the other processes that there is no run for them."""
        self.store.set(_JOB, json.dumps(None))

    def lead(self, job: dict[str, Any], backend: str, patience: float) -> None:
        """Sends the job to the other processes and connects with them.

        Args:
            job: of plain values.
            patience: longest wait for another process, in s.

        Raises:
            ProcessError: one did not connect.
        """
        self._token, self._patience = uuid4().hex, patience
        about = {"token": self._token, "backend": backend, "patience": patience}
        self.store.set(_JOB, json.dumps({**about, "job": job}))
        replies = [f"{self._token}/{rank}" for rank in range(1, self.size)]
        missing = self._missing(replies, patience)
        if missing:
            ranks = [rank for rank in range(1, self.size) if f"{self._token}/{rank}" in missing]
            raise ProcessError(self._silent(ranks))
        names = ["", *(self.store.get(reply).decode() for reply in replies)]
        self.store.set(f"{self._token}/names", json.dumps(names))
        self._connect(backend)

    def join(self) -> dict[str, Any] | None:
        """Waits for the job and connects; None: there is nothing to do.

        A job of an attempt that has ended is not answered by this process's name.
        """
        name = uuid4().hex
        while True:
            self._missing([_JOB], float("inf"))
            found = json.loads(self.store.get(_JOB))
            if found is None:
                return None
            names, self._token = f"{found['token']}/names", found["token"]
            if not self.store.check([names]):
                self.store.set(f"{self._token}/{self.rank}", name)
                self._missing([names], 1.0)
            if self.store.check([names]) and json.loads(self.store.get(names))[self.rank] == name:
                self._patience = found["patience"]
                self._connect(found["backend"])
                return found["job"]
            time.sleep(_POLL_S)

    def _missing(self, keys: Sequence[str], seconds: float) -> list[str]:
        """Those of the keys that nobody has set after this time."""
        deadline = time.monotonic() + seconds
        while missing := [key for key in keys if not self.store.check([key])]:
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)  # here a signal is handled, and not while the store waits
        return missing

    def _connect(self, backend: str) -> None:
        with self._naming():
            dist.init_process_group(
                backend,
                store=PrefixStore(self._token, self.store),
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=self._patience),
            )

    def close(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    # Commands

    @contextmanager
    def command(self, kind: int) -> Iterator[None]:
        """Sends a command; in this context process 0 does its own part of it."""
        self._busy = True
        self._exchange(kind, 0)
        yield
        self._busy = False

    def end(self) -> None:
        """Sends END unless a command failed, after which nobody listens."""
        if not self._busy:
            self._exchange(END, 0)

    def next_command(self, signal: int) -> int:
        """Waits for the next command.

        Args:
            signal: number of a signal that this process received; 0: none.
        """
        return self._exchange(0, signal)

    def _exchange(self, kind: int, signal: int) -> int:
        message = torch.tensor([kind, signal])
        with self._naming():
            dist.all_reduce(message, op=dist.ReduceOp.MAX)
        kind, self.signal = (int(number) for number in message)
        return kind

    # Tensors

    def sum_rows(self, rows: Tensor, add: Callable[[Tensor], Tensor]) -> Tensor:
        """The sum of the rows of all processes, (rows, n) -> (n,), the same bits for any number of
        processes that hold them.

        Each process sums a part of the columns, with the rows in the order of the processes. Each
        sends and receives about 2 n numbers.

        Args:
            add: rows of one process, (m, columns) -> (columns,).
        """
        held, n = rows.shape
        width = -(-n // self.size)
        columns = pad(rows, (0, width * self.size - n)).view(held, self.size, width)
        sent = columns.transpose(0, 1).contiguous()
        received, whole = torch.empty_like(sent), rows.new_empty(width * self.size)
        with self._naming():
            dist.all_to_all_single(received, sent)
            dist.all_gather(list(whole.split(width)), add(received.flatten(0, 1)))
        return whole[:n]

    def gather_all(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        """The tensors of each process, on the CPU: in process 0, which sends the command; elsewhere
        its own only."""
        with self.command(GATHER) if self.rank == 0 else nullcontext():
            return self._gather(tensors)

    def _gather(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        own = [tensor.detach().cpu().contiguous() for tensor in tensors]
        data = torch.cat([tensor.view(-1).view(torch.uint8) for tensor in own])
        parts = [torch.empty_like(data) for _ in range(self.size)] if self.rank == 0 else None
        with self._naming():
            dist.gather(data, parts)
        sizes = [tensor.numel() * tensor.element_size() for tensor in own]
        return [
            [
                piece.clone().view(tensor.dtype).view(tensor.shape)  # a view may not be aligned
                for piece, tensor in zip(part.split(sizes), own, strict=True)
            ]
            for part in (parts or [data])
        ]

    def send(self, state: Any = None) -> Any:
        """The state that process 0 gives: tensors and plain values."""
        buffer = io.BytesIO()
        if self.rank == 0:
            torch.save(state, buffer)
        data = torch.frombuffer(bytearray(buffer.getvalue() or b"\0"), dtype=torch.uint8)
        size = torch.tensor([len(data)])
        with self._naming():
            dist.broadcast(size, 0)
            data = data if self.rank == 0 else torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(data, 0)
        if self.rank == 0:
            return state
        return torch.load(io.BytesIO(data.numpy().tobytes()), weights_only=True)

    def load(self, state: Any) -> None:
        """Makes the other processes load this state. For process 0."""
        with self.command(LOAD):
            self.send(state)

    # A process that is lost

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Raises ProcessError with the process that does not answer, in place of the error of gloo
        or NCCL."""
        try:
            yield
        except RuntimeError as error:
            raise ProcessError(self._lost(error)) from error

    def _lost(self, error: RuntimeError) -> str:
        others = [rank for rank in range(self.size) if rank != self.rank]
        self.store.set(f"{self._token}/alive/{self.rank}", "")
        if len(others) > 1:
            keys = {f"{self._token}/alive/{rank}": rank for rank in others}
            others = [keys[key] for key in self._missing(list(keys), _REPLY_S)]
        if "timed out" in str(error).lower():
            return self._silent(others)
        return (
            f"{_ranks(others)} ended before the run did: ebmtrain resume RUN continues from the "
            "last checkpoint"
        )

    def _silent(self, ranks: Sequence[int]) -> str:
        return (
            f"{_ranks(ranks)} did not answer within {self._patience:g} s (device.patience): if it "
            "hangs, ebmtrain resume RUN continues from the last checkpoint; if it is slow, raise "
            "device.patience"
        )


def _ranks(ranks: Sequence[int]) -> str:
    if not ranks:
        return "the connection failed: a rank"
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"
