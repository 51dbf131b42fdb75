"""Access to the folders and files of data sets that the user provides."""

from __future__ import annotations

import stat
from pathlib import Path

from ebmtrain.errors import DataError


def resolve_folder(path: str, wanted: str) -> Path:
    """The path of an existing folder, with ~ expanded.

    Args:
        wanted: the remedy in messages: which files belong there, and where to get them.

    Raises:
        DataError: the folder does not exist.
    """
    try:
        folder = Path(path).expanduser()
        kind = folder.stat().st_mode
    except (OSError, RuntimeError, ValueError) as error:  # missing, no home, a NUL in it
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise DataError(f"{path!r} cannot be read ({reason}): {wanted}") from error
    if not stat.S_ISDIR(kind):
        raise DataError(f"{path} is not a folder: {wanted}")
    return folder


def read_bytes(file: Path) -> bytes:
    """The content of a regular file.

    Raises:
        DataError: it is not a regular file, cannot be read, or is empty.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # reading a pipe would block
            raise DataError(f"{file} is not a regular file: copy the data to one")
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): check the file") from error
    if not data:
        raise DataError(f"{file} is empty: get it again")
    return data
