"""Safe reading of NumPy files: no pickles, and headers are checked before memory is allocated."""

from __future__ import annotations

import math
import zipfile
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from ebmtrain.datasets.io.memory import check_memory
from ebmtrain.datasets.io.named_arrays import Arrays, check_numbers, read_named
from ebmtrain.errors import DataError, first_line

_NUMBERS = "biuf"


def read_npy(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped into memory: a row is read when it is selected.

    Raises:
        DataError: the file is damaged or does not hold real numbers.
    """
    with path.open("rb") as stream:
        shape, dtype, fortran = _read_header(stream, path.stat().st_size, str(path))
        start = stream.tell()
    if math.prod(shape) == 0:  # cannot be mapped
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def open_npz(path: Path) -> Arrays:
    """The arrays of a .npz file by name.

    Raises:
        DataError: the file is no archive; for an array that is read, it is damaged or does not hold
            real numbers or text.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(
            f"{path} is not an npz archive ({error}): write it with numpy.savez"
        ) from error
    with archive:
        return {
            info.filename.removesuffix(".npy"): partial(_read_member, path, info)
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }


def read_npz(path: Path, array: str | None) -> np.ndarray:
    """One array of a .npz file, see `read_named`."""
    return np.asarray(read_named(str(path), open_npz(path), array)[0])


def _read_member(path: Path, info: zipfile.ZipInfo) -> np.ndarray:
    name = f"{path}[{info.filename.removesuffix('.npy')}]"
    try:
        with zipfile.ZipFile(path) as archive, archive.open(info) as stream:
            shape, dtype, _ = _read_header(stream, info.file_size, name, "U")
            check_memory(name, math.prod(shape) * dtype.itemsize)
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{name} does not fit into memory: save fewer rows") from error
    except (NotImplementedError, RuntimeError) as error:  # an unknown compression, or encrypted
        reason = f"{path} cannot be unpacked ({error}): write it with numpy.savez"
        raise DataError(reason) from error
    except Exception as error:  # zip and deflate errors of many kinds
        raise DataError(f"{name} cannot be read ({error}): write it again") from error


def _read_header(
    stream: IO[bytes], size: int, name: str, also: str = ""
) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Shape, type and Fortran order of the array in a stream of `size` bytes, checked.

    Args:
        also: kinds of types that are allowed besides real numbers.
    """
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            header = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except Exception as error:  # the header is parsed as Python: it fails in many ways
        reason = first_line(error)
        raise DataError(
            f"{name} has no readable npy header ({reason}): write it with numpy.save"
        ) from error
    if dtype.hasobject:
        raise DataError(
            f"{name} holds Python objects, and unpickling them could run any code: "
            "save an array of numbers"
        )
    if dtype.kind not in _NUMBERS + also:
        check_numbers(name, dtype)
    claimed, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if claimed != held:
        raise DataError(
            f"{name} is damaged: its header states {claimed:,} bytes for shape {shape}, "
            f"{held:,} follow: write it again"
        )
    return shape, dtype, fortran
