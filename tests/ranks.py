"""The processes that torchrun starts, forked from the test: they need not import torch again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from forked import Child, Ended
from processes import HANG_S

from ebmtrain.cli.main import main
from ebmtrain.runs.figures import RunFigures


class Ranks:
    """One attempt: `size` processes of one command.

    Args:
        words: of the command.
        folder: of their output.
        store: of an earlier attempt, which torchrun keeps; None: a new one.
        before: called in each process with its rank, before the command.
    """

    def __init__(
        self,
        words: list[str],
        folder: Path,
        size: int = 2,
        store: Any = None,
        before: Callable[[int], object] = lambda rank: None,
    ):
        self.store = store or dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.children: list[Child] = []

        def start(rank: int) -> int:
            os.environ |= {
                "TORCHELASTIC_RUN_ID": "test", "RANK": str(rank), "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(self.store.port),
            }  # fmt: skip
            RunFigures.draw_landscape = lambda *_: None
            RunFigures.draw_all = lambda *_: []
            before(rank)
            return main(list(words))

        for rank in range(size):
            own = folder / f"rank{rank}"
            own.mkdir(exist_ok=True)
            self.children.append(Child(lambda rank=rank: start(rank), own))

    def ended(self, seconds: float = HANG_S) -> list[Ended]:
        return [child.ended(seconds) for child in self.children]

    def first_to_end(self) -> int:
        """Waits until one of them has ended; ends the others as torchrun does. The rank."""
        pid = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT).si_pid  # and leaves it to `ended`
        rank = [child.pid for child in self.children].index(pid)
        for child in self.children:
            if child.pid != pid:
                os.kill(child.pid, signal.SIGTERM)
        return rank
