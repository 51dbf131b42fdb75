"""Atomic, fsync'ed file writes. All files of a run are written here.

A checkpoint, like every file that is replaced as a whole, is written in these steps:

1. Serialize it in memory with its SHA-256 (`checkpoint_format.encode`), so that a full disk fails
   in a plain write.
2. Write it to a new temporary file in the same folder (O_EXCL) and fsync it: the content is
   durable.
3. Rename it (os.replace): a reader finds the old file or the new one, never a part.
4. Fsync the folder: the name is durable. Only now does `write_file` return.
5. Remove older checkpoints (`remove_files`), at least two are kept, and fsync the folder again.

A power loss may undo any part of what was not synced, but nothing for which `write_file` has
returned: tests/reliability/test_crash_states.py tests all such states. A killed process may leave
temporary files; the next writer removes them (`remove_temporary_files`).

This holds for a local POSIX file system on a disk that honours fsync.
"""

from __future__ import annotations

import fcntl
import os
import platform
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ebmtrain.errors import LockedError, OutputError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
_TEMPORARY = ".tmp"


def write_file(path: Path, data: bytes) -> None:
    """Writes a whole file or nothing; the file is durable when this returns.

    Raises:
        OutputError: the disk is full, the folder is gone or not writable. The old file is intact.
    """
    try:
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY}")
        try:
            write_synced(temporary, os.O_EXCL, data)
            os.replace(temporary, path)  # noqa: PTH105  one of the calls that the tests record
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108  likewise
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def append_to_file(path: Path, data: bytes) -> None:
    """Appends to a file. Not durable before `sync_file`; a failure may leave a part of `data`.

    Raises:
        OutputError: the disk is full, the folder is gone or not writable.
    """
    try:
        make_folder(path.parent)
        with _open_descriptor(path, _NEW | os.O_APPEND) as descriptor:
            _write_all(descriptor, data)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def sync_file(path: Path) -> None:
    """Makes appended data and the file's name durable; does nothing if there is no such file.

    Raises:
        OutputError: the disk reports an error.
    """
    try:
        with _open_descriptor(path, os.O_RDONLY | os.O_CLOEXEC) as descriptor:
            os.fsync(descriptor)
        sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def remove_files(paths: Iterable[Path]) -> None:
    """Removes files durably. Call it only after the files to keep were written.

    Raises:
        OutputError: they cannot be removed.
    """
    folders = set()
    for path in paths:
        try:
            os.unlink(path)  # noqa: PTH108  the tests record it
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutputError(f"cannot remove {path}: {error.strerror or error}") from error
        folders.add(path.parent)
    for folder in folders:
        try:
            sync_folder(folder)
        except OSError as error:
            raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error


def remove_temporary_files(folders: Iterable[Path]) -> None:
    """Removes temporary files of killed processes. Call it before this process writes any: a file
    with its own process number comes from an earlier process."""
    for folder in folders:
        remove_files(path for path in folder.glob(f".*{_TEMPORARY}") if not _in_use(path))


def _in_use(temporary: Path) -> bool:
    """True if a living process may still rename it; `sample`, for one, takes no lock."""
    number = temporary.name.removesuffix(_TEMPORARY).rpartition(".")[2].partition("-")[0]
    if not number.isdecimal():  # not a name that `write_file` gives
        return True
    if int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # a process of another user, or no valid number
        return True
    return True


def write_synced(path: Path, flags: int, data: bytes) -> None:
    with _open_descriptor(path, _NEW | flags) as descriptor:
        _write_all(descriptor, data)
        os.fsync(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    """Writes all bytes: one system call may write fewer, at a limit or after a signal."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextmanager
def _open_descriptor(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Creates a folder and its parents; the name of each new one is durable, as its content would
    be lost with it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # another process made it; or it is a file, which shows later
        os.mkdir(folder)  # noqa: PTH102  the tests record it
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    with _open_descriptor(folder, os.O_RDONLY | os.O_CLOEXEC) as descriptor:
        os.fsync(descriptor)


@contextmanager
def lock_directory(path: Path) -> Iterator[None]:
    """Holds the lock of a run directory, which is created if it does not exist.

    The system releases the lock when its process ends in any way, so no lock is stale. The lock
    file stays: if it were removed, two processes could hold two locks of one name.

    Raises:
        LockedError: another process holds it.
        OutputError: the folder cannot be written.
    """
    descriptor = _lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    """A descriptor that holds the lock until it is closed. Raises as `lock_directory` does."""
    descriptor = None
    try:
        make_folder(path)
        descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        _write_all(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
        return descriptor
    except OSError as error:
        problem: Exception = OutputError(f"cannot write {path / '.lock'}: {error.strerror}")
        if isinstance(error, BlockingIOError) and descriptor is not None:
            holder = os.read(descriptor, 100).decode(errors="replace").strip()
            problem = LockedError(
                f"{path} is in use by {holder or 'another process'}: wait until it has ended, or "
                "end it"
            )
        if descriptor is not None:
            os.close(descriptor)
        raise problem from error
