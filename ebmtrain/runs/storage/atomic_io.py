"""Atomic, fsync'ed file writes. All files of a run are written here.

A file that is replaced as a whole, such as a checkpoint, is written in these steps:

1. Serialize it in memory (`checkpoint_format.encode`), so that a full disk fails in a plain write.
2. Write it to a new temporary file in the same folder (O_EXCL) and fsync it: the content is
   durable.
3. Rename it (os.replace): a reader finds the old file or the new one, never a part.
4. Fsync the folder: the name is durable. Only now does `write_file` return.
5. Remove older checkpoints (`remove_files`), at least two are kept, and fsync the folder again.

A power loss undoes nothing for which `write_file` has returned, on a local POSIX file system whose
disk honours fsync: tests/reliability/test_crash_states.py tests all states. A killed process may
leave temporary files, which the next writer removes (`remove_temporary_files`).

Each function takes a folder, which the user names and which may be reached through links, and the
name of a file below it. No link below the folder is followed, and only a regular file with one name
that belongs to this user is opened for writing (`_open_checked`): all functions raise UnsafeError
otherwise, and OutputError if the disk is full or a folder is missing, not writable, or, where its
`identity` is given, another one than when the run began.
"""

from __future__ import annotations

import fcntl
import os
import platform
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import TextIO

from ebmtrain.errors import LockedError, OutputError, UnsafeError

_NEW = os.O_WRONLY | os.O_CREAT
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TEMPORARY = ".tmp"
Identity = tuple[int, int]
"""Device and inode of a folder: the same one under any name."""


def folder_identity(folder: Path) -> Identity:
    return _identity(os.stat(folder))  # noqa: PTH116  of an open folder too


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def write_file(folder: Path, name: str, data: bytes, identity: Identity | None = None) -> None:
    """Writes a whole file or, if it raises an error, nothing; the file is durable when this
    returns."""
    path = folder / name
    with _output_errors(path), _parent(folder, name, identity, create=True) as (parent, file):
        with suppress(FileNotFoundError):
            check_file_type(path, os.stat(file, dir_fd=parent, follow_symlinks=False))
        temporary = f".{file}.{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY}"
        try:
            with _open_file(parent, temporary, _NEW | os.O_EXCL, path) as descriptor:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            os.replace(temporary, file, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
        os.fsync(parent)


def append_to_file(folder: Path, name: str, data: bytes, identity: Identity | None = None) -> None:
    """Appends to a file. Not durable before `sync_file`; a failure may leave a part of `data`."""
    path = folder / name
    with (
        _output_errors(path),
        _parent(folder, name, identity, create=True) as (parent, file),
        _open_file(parent, file, _NEW | os.O_APPEND, path) as descriptor,
    ):
        _write_all(descriptor, data)


def open_log(folder: Path, name: str, identity: Identity | None = None) -> TextIO:
    """A text file to which lines are appended."""
    path = folder / name
    with _output_errors(path), _parent(folder, name, identity, create=True) as (parent, file):
        descriptor = _open_checked(parent, file, _NEW | os.O_APPEND, path)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")


def sync_file(folder: Path, name: str, identity: Identity | None = None) -> None:
    """Makes appended data and the file's name durable; does nothing if there is no such file."""
    path = folder / name
    with (
        _output_errors(path),
        suppress(FileNotFoundError),
        _parent(folder, name, identity) as (parent, file),
    ):
        with _open_file(parent, file, os.O_RDONLY, path) as descriptor:
            os.fsync(descriptor)
        os.fsync(parent)


def remove_files(folder: Path, names: Iterable[str], identity: Identity | None = None) -> None:
    """Removes files durably. Call it after the files to keep were written."""
    for name in names:
        with (
            _output_errors(folder / name, "remove"),
            suppress(FileNotFoundError),
            _parent(folder, name, identity) as (parent, file),
        ):
            os.unlink(file, dir_fd=parent)
            os.fsync(parent)


def remove_temporary_files(folder: Path, subfolders: Iterable[str]) -> None:
    """Removes temporary files of killed processes in the folder and some of its subfolders.

    Call it before this process writes any: one with its own number comes from an earlier process.
    """
    for place in (folder, *(folder / name for name in subfolders)):
        found = [path for path in place.glob(f".*{_TEMPORARY}") if not _in_use(path)]
        remove_files(folder, [path.relative_to(folder).as_posix() for path in found])


def _in_use(temporary: Path) -> bool:
    """True if a living process may still rename it: `sample`, for one, takes no lock."""
    number = temporary.name.removesuffix(_TEMPORARY).rpartition(".")[2].partition("-")[0]
    if not number.isdecimal():  # not a name that `write_file` gives
        return True
    with suppress(PermissionError, OverflowError):  # of another user, or no valid number
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return False
    return int(number) != os.getpid()


def _write_all(descriptor: int, data: bytes) -> None:
    """Writes all bytes: one system call may write fewer, at a limit or after a signal."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def check_file_type(path: Path, status: os.stat_result) -> None:
    """Raises UnsafeError unless it is a regular file or a folder: a link would redirect writes, a
    pipe would block.

    Args:
        status: of the file itself, a link not followed.
    """
    if stat.S_ISLNK(status.st_mode):
        raise UnsafeError(f"{path} is a link: put what it points to in its place")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise UnsafeError(f"{path} is a pipe, socket or device: remove it")


def _open_checked(parent: int, name: str, flags: int, path: Path) -> int:
    """A descriptor of a file in the open folder `parent`. Raises UnsafeError if it is a link, pipe,
    socket or device; for writing also if it has another name, so that a file elsewhere would change
    too, or belongs to another user and this one is not root."""
    with suppress(FileNotFoundError):  # before opening, which may block or have effects
        check_file_type(path, os.stat(name, dir_fd=parent, follow_symlinks=False))
    safe = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags | safe, 0o644, dir_fd=parent)
    try:
        status = os.fstat(descriptor)
        check_file_type(path, status)
        if flags & (os.O_WRONLY | os.O_RDWR):
            if status.st_nlink > 1:
                raise UnsafeError(
                    f"{path} is a hard link, so another file would change too: put a copy in its "
                    "place"
                )
            if os.geteuid() not in (0, status.st_uid):
                raise UnsafeError(f"{path} belongs to another user: put a copy in its place")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _open_file(parent: int, name: str, flags: int, path: Path) -> Iterator[int]:
    descriptor = _open_checked(parent, name, flags, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _output_errors(path: Path, act: str = "write") -> Iterator[None]:
    """Raises OutputError in place of an OSError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot {act} {path}: {error.strerror or error}") from error


@contextmanager
def _parent(
    folder: Path, name: str, identity: Identity | None = None, *, create: bool = False
) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder that holds the file `name` below `folder`, and the file's name in
    it. Raises UnsafeError if one of the folders below `folder` is a link, and OutputError if
    `folder` is not the one of this identity.

    Args:
        create: creates the folders that do not exist.
    """
    *inner, file = PurePath(name).parts
    if create and identity is None:
        _make_folder(folder)
    place, parent = folder, _open_folder(folder, identity)
    try:
        for part in inner:
            place /= part
            before, parent = parent, _open_subfolder(parent, part, place, create=create)
            os.close(before)
        yield parent, file
    finally:
        os.close(parent)


def _open_folder(folder: Path, identity: Identity | None) -> int:
    try:
        descriptor = os.open(folder, _FOLDER)
    except FileNotFoundError as error:
        if identity is None:
            raise
        raise OutputError(
            f"cannot write {folder}: {error.strerror}; it was removed or renamed while the run "
            "worked in it"
        ) from None
    if identity not in (None, _identity(os.fstat(descriptor))):
        os.close(descriptor)
        raise OutputError(
            f"cannot write {folder}: another folder took its place while the run worked in it"
        )
    return descriptor


def _open_subfolder(parent: int, name: str, path: Path, *, create: bool) -> int:
    flags = _FOLDER | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
        with suppress(FileExistsError):  # another process made it
            os.mkdir(name, dir_fd=parent)
        os.fsync(parent)  # a folder's content is lost with its name
        return os.open(name, flags, dir_fd=parent)
    except OSError:
        check_file_type(path, os.stat(name, dir_fd=parent, follow_symlinks=False))
        raise


def _make_folder(folder: Path) -> None:
    """Creates a folder and its parents, with durable names."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):  # another process made it; or it is a file, which shows later
        os.mkdir(folder)  # noqa: PTH102  the tests record it
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, _FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock_directory(path: Path, identity: Identity | None = None) -> Iterator[Identity]:
    """Holds the lock of a run directory, which is created if it does not exist, and gives its
    identity; raises LockedError if another process holds it.

    The system releases the lock when its process ends in any way, so no lock is stale. The lock
    file stays: if it were removed, two processes could hold two locks of one name.
    """
    file = path / ".lock"
    with _output_errors(file), _parent(path, file.name, identity, create=True) as (parent, name):
        identity = _identity(os.fstat(parent))
        descriptor = _open_checked(parent, name, os.O_RDWR | os.O_CREAT, file)
    try:
        with _output_errors(file):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(descriptor, 100).decode(errors="replace").strip()
                raise LockedError(
                    f"{path} is in use by {holder or 'another process'}: wait until it has ended, "
                    "or end it"
                ) from error
            os.ftruncate(descriptor, 0)
            _write_all(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
        yield identity
    finally:
        os.close(descriptor)
