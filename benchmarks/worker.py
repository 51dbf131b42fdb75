"""A tool in a separate process, which trains on request: see tools.py."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loops.setting import Setting

HERE = Path(__file__).resolve().parent
LONGEST = 900.0  # seconds that one answer may take


class Worker:
    """The process of one tool."""

    def __init__(self, tool: str, setting: Setting, threads: int, cache: str):
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "TORCHINDUCTOR_CACHE_DIR": cache,  # so that no earlier graph is found
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        }
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "tools.py"), tool, json.dumps(asdict(setting))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=environment,
        )  # fmt: skip
        try:
            self.ready: float = self.answer()["ready"]
        except BaseException:
            self.kill()
            raise

    def answer(self) -> Any:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], LONGEST)[0]:
            raise RuntimeError(f"no answer within {LONGEST:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError((self.errors.read().strip().splitlines() or ["it ended"])[-1])
        return json.loads(line)

    def turn(self) -> tuple[float, float]:
        """Trains one epoch; seconds per update, wall-clock and CPU."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return tuple(self.answer())

    def end(self) -> float:
        """Peak memory in MB."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        peak = self.answer()["peak_mb"]
        self.kill()
        return peak

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            assert pipe is not None
            with suppress(BrokenPipeError):  # of a request that it did not read
                pipe.close()
