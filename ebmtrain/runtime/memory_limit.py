"""What a process may take of the machine's memory."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
DRIVER = Path("/dev/nvidiactl")


def limit_to_free_memory(meminfo: Path = MEMINFO) -> None:
    """Not more than is free now. Linux grants a process more than there is, and kills it, or
    another one, when the memory is used; with a bound an allocation fails, which can be told: "out
    of memory: lower ...". Where a GPU's driver is there no bound is set: it maps more than it uses.
    """
    if DRIVER.exists():
        return
    with suppress(OSError, ValueError, KeyError):  # another system, or one that is closed
        lines = meminfo.read_text(encoding="ascii").splitlines()
        kilobytes = {
            name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)
        }
        free = 1024 * (kilobytes["MemAvailable"] + kilobytes["SwapFree"])
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if soft == resource.RLIM_INFINITY or free < soft:
            resource.setrlimit(resource.RLIMIT_DATA, (free, hard))
