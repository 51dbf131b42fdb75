"""A limit on the memory of this process."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
DRIVER = Path("/dev/nvidiactl")


def memory_bytes() -> int:
    """Bytes that this process may use: its limit if it has one, else the memory of the machine."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return installed if soft == resource.RLIM_INFINITY else min(soft, installed)


def limit_to_free_memory(meminfo: Path = MEMINFO) -> None:
    """Limits the data segment of this process (RLIMIT_DATA) to the memory that is free now.

    Linux grants more memory than there is and kills the process that uses it. With a limit the
    allocation fails, and the run reports it. No limit is set on machines with an NVIDIA driver,
    which maps more memory than it uses.
    """
    if DRIVER.exists():
        return
    with suppress(OSError, ValueError, KeyError):  # no /proc/meminfo, or not readable
        lines = meminfo.read_text(encoding="ascii").splitlines()
        kilobytes = {
            name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)
        }
        free = 1024 * (kilobytes["MemAvailable"] + kilobytes["SwapFree"])
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if soft == resource.RLIM_INFINITY or free < soft:
            resource.setrlimit(resource.RLIMIT_DATA, (free, hard))
