"""Where what was compiled is kept between runs."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from pathlib import Path


def use_disk_cache() -> None:
    """What was compiled once is found again by the next run, in the user's cache folder; where
    TORCHINDUCTOR_CACHE_DIR says another place, or nothing can be written, as torch has it."""
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return
    if folder := cache_folder("inductor"):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def cache_folder(kind: str) -> Path | None:
    """In the user's cache folder, for this kind of processor; None: it cannot be written, or other
    users can: what is found there is run."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
        folder = Path(base) / "ebmtrain" / kind / processor_id()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = folder.stat()
    except (OSError, RuntimeError):
        return None
    others = told.st_uid != os.geteuid() or told.st_mode & stat.S_IWOTH
    return folder if os.access(folder, os.W_OK) and not others else None


def processor_id() -> str:
    """A name for this kind of processor. Torch compiles for the very one and its cache does not
    tell them apart: in a home that machines share, one would run the code of another and die."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return hashlib.sha256("\n".join([platform.machine(), *told]).encode()).hexdigest()[:12]
