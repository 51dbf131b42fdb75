"""Files that survive: the one place that says how bytes come to stand on a disk.

A checkpoint, like every file that is replaced as a whole, is written in these steps:

1. serialised in memory, with its SHA-256 (`checkpoints.encode`): a full disk is met by a plain
   write;
2. into a temporary file in the same folder, new (O_EXCL), and synced (fsync): the content stands;
3. renamed to its name (os.replace): whoever looks finds the old file or the new one, never half;
4. the folder synced: the name stands. Only now is it acknowledged: `write_file` returns;
5. older ones removed (`remove_files`), at least two kept, and the folder synced again.

So after a power loss, which may undo any part of what was not synced, everything that was
acknowledged is there: tests/reliability/test_crash_states.py tries all such states. A process that
is killed may leave temporary files; the next one that writes removes them
(`remove_temporary_files`).

The promise holds for a local POSIX file system on a disk that does not lie about fsync.
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
    """Whole or not at all, and durable when it returns.

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
    """At the end of a file; not yet durable: see `sync_file`. A failure may leave a part of it.

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
    """Makes durable what was appended, and the file's name; nothing where there is no such file.

    Raises:
        OutputError: the disk says that it is not.
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
    """Removes files of one folder. Only after what is to stay has been acknowledged.

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
    """Removes the temporary files of processes that were killed. To be called before this process
    writes any: one of its own number is of an earlier process."""
    for folder in folders:
        remove_files(path for path in folder.glob(f".*{_TEMPORARY}") if not _in_use(path))


def _in_use(temporary: Path) -> bool:
    """Another process that lives may be about to rename it: `sample`, say, takes no lock."""
    number = temporary.name.removesuffix(_TEMPORARY).rpartition(".")[2].partition("-")[0]
    if not number.isdecimal():  # not a name that `write_file` gives
        return True
    if int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it lives, and is somebody else's; or is no process
        return True
    return True


def write_synced(path: Path, flags: int, data: bytes) -> None:
    with _open_descriptor(path, _NEW | flags) as descriptor:
        _write_all(descriptor, data)
        os.fsync(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    """The system may take less than it was given, at a limit or after a signal."""
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
    """With all that is above it; the name of each new one durable, or its content would be lost
    with it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # another process was faster; or it is a file, as comes out
        os.mkdir(folder)  # noqa: PTH102  the tests record it
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    with _open_descriptor(folder, os.O_RDONLY | os.O_CLOEXEC) as descriptor:
        os.fsync(descriptor)


@contextmanager
def lock_directory(path: Path) -> Iterator[None]:
    """While in here, no other process works in this run directory, which is made if need be.

    The system lets go of the lock when its process ends, however that may be, so none is ever
    stale; the file stays, since removing it would let two others hold two locks of one name.

    Raises:
        LockedError: somebody does.
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
