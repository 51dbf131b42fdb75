"""Cache folders of compiled code, kept between runs."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from pathlib import Path


def use_disk_cache() -> None:
    """Lets inductor keep compiled graphs in the user's cache folder for later runs, unless
    TORCHINDUCTOR_CACHE_DIR is set or the folder is not usable."""
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return
    if folder := cache_folder("inductor"):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def cache_folder(kind: str) -> Path | None:
    """The user's cache folder for this kind of code and this kind of processor, created if absent.
    None if it is not writable, or belongs to or is writable by other users: its files are executed.
    """
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
        folder = Path(base) / "ebmtrain" / kind / _processor_id()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):
        return None
    is_foreign = status.st_uid != os.geteuid() or status.st_mode & stat.S_IWOTH
    return folder if os.access(folder, os.W_OK) and not is_foreign else None


def _processor_id() -> str:
    """A hash of the architecture, the processor's model and its instruction sets: torch's own cache
    does not distinguish processors, and machines may share a home directory."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    model = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return hashlib.sha256("\n".join([platform.machine(), *model]).encode()).hexdigest()[:12]
