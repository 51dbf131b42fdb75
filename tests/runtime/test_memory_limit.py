"""More memory than there is free is refused with an error that can be told, not by a kill."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ebmtrain.runtime import memory_limit as memory

TAKES = """
import sys
from pathlib import Path
import torch
from ebmtrain.errors import out_of_memory
from ebmtrain.runtime.memory_limit import limit_to_free_memory
limit_to_free_memory(Path(sys.argv[1]))
kept = []
try:
    for _ in range(20):
        kept.append(torch.zeros(100, 1024, 256))  # 100 MB
except RuntimeError as error:
    print(len(kept), out_of_memory(error))
"""

needs_linux = pytest.mark.skipif(not memory.MEMINFO.exists(), reason="tells free memory on Linux")


@pytest.mark.slow
@needs_linux
@pytest.mark.skipif(memory.DRIVER.exists(), reason="no bound beside a GPU's driver")
def test_small_allocations_beyond_free_memory_raise(tmp_path: Path):
    """1.5 GB are free: 20 pieces of 100 MB are not to be had, more than five are."""
    told = tmp_path / "meminfo"
    told.write_text("MemTotal: 2000000 kB\nMemAvailable:  1400000 kB\nSwapFree: 100000 kB\n")
    out = subprocess.run(
        [sys.executable, "-c", TAKES, told], capture_output=True, text=True, check=True
    ).stdout
    count, refused = out.split()
    assert 5 < int(count) < 15
    assert refused == "True"


@pytest.mark.parametrize("content", ["", "MemAvailable: much kB\n", "MemAvailable: 10 kB\n"])
def test_unknown_free_memory_sets_no_limit(tmp_path: Path, content: str):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    told = tmp_path / "meminfo"
    told.write_text(content)
    memory.limit_to_free_memory(told)
    memory.limit_to_free_memory(tmp_path / "missing")
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
