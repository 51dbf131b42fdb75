"""The journal of a search: Optuna's log of its trials, which several processes append to."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock


class _FileLock(JournalFileOpenLock):
    """A lock that the system releases when its process ends in any way. Optuna's own is a file that
    a killed process leaves, for which others wait half a minute."""

    def __init__(self, path: Path):
        super().__init__(str(path))
        self._path, self._descriptor = path, -1

    def acquire(self) -> bool:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        os.close(self._descriptor)


def open_journal(path: Path) -> JournalStorage:
    """The storage of the trials in this file."""
    lock = _FileLock(path.with_name(f".{path.name}.lock"))
    return JournalStorage(JournalFileBackend(str(path), lock))
