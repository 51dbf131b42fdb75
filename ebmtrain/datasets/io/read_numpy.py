"""Safe reading of NumPy files: no pickles, and headers are checked before memory is allocated."""

from __future__ import annotations

import math
import zipfile
from difflib import get_close_matches
from pathlib import Path
from typing import IO

import numpy as np

from ebmtrain.errors import DataError


def read_npy(path: Path) -> np.ndarray:
    """The array of a .npy file.

    Raises:
        DataError: the file is damaged or does not hold real numbers.
    """
    with path.open("rb") as stream:
        return _read(stream, path.stat().st_size, str(path))


_LENGTHS = "lengths"  # array of the lengths of sequences, (n, length, channels)


def read_npz(path: Path, array: str | None) -> np.ndarray:
    """One array of a .npz file: `array`, or the only one other than `lengths`.

    If the file has `lengths`, sequences (n, length, channels) are NaN after the end of each.

    Raises:
        DataError: the file is damaged; the array is missing, ambiguous or does not hold real
            numbers; the lengths do not fit the sequences.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{path} is not an npz archive ({error}): write it with numpy.savez"
        ) from error
    with archive:
        members = {
            info.filename.removesuffix(".npy"): info
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }
        chosen = _choose(path, list(members), array)
        values = _member(path, archive, members[chosen])
        named_otherwise = chosen == _LENGTHS or (array is not None and values.ndim != 3)
        if _LENGTHS not in members or named_otherwise:
            return values
        return _mask_ends(path, values, _member(path, archive, members[_LENGTHS]))


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    try:
        stream = archive.open(info)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # or encrypted
        reason = f"{path} cannot be unpacked ({error}): write it with numpy.savez"
        raise DataError(reason) from error
    with stream:
        return _read(stream, info.file_size, f"{path}[{info.filename.removesuffix('.npy')}]")


def _mask_ends(path: Path, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The sequences as float64, with NaN after the end of each."""
    if x.ndim != 3:
        raise DataError(
            f"{path} has lengths of sequences (n, length, channels), and its points have shape "
            f"{x.shape}: save sequences, or choose the array with array=NAME"
        )
    if lengths.dtype.kind not in "iu" or lengths.shape != x.shape[:1]:
        raise DataError(
            f"{path}[{_LENGTHS}] is {lengths.dtype} of shape {lengths.shape}: save a whole number "
            f"for each of the {len(x)} sequences"
        )
    wrong = (lengths < 1) | (lengths > x.shape[1])
    if wrong.any():
        i = int(np.argmax(wrong))
        raise DataError(
            f"{path}[{_LENGTHS}] is {lengths[i]} in row {i + 1} (counted from 1), the sequences "
            f"have 1 to {x.shape[1]} steps: correct it or leave the row out"
        )
    mask = np.arange(x.shape[1]) < lengths[:, None]
    return np.where(mask[..., None], x.astype(np.float64), np.nan)


def _choose(path: Path, names: list[str], array: str | None) -> str:
    if not names:
        raise DataError(f"{path} holds no array: write it with numpy.savez(path, x=points)")
    points = [name for name in names if name != _LENGTHS] or names
    if array is None and len(points) > 1:
        raise DataError(
            f"{path} holds {len(points)} arrays: choose one with array=NAME, "
            f"of {', '.join(sorted(points))}"
        )
    if array is not None and array not in names:
        near = get_close_matches(array, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"it holds {', '.join(sorted(names))}"
        raise DataError(f"{path} holds no array {array}: {hint}")
    return points[0] if array is None else array


def _read(stream: IO[bytes], size: int, name: str) -> np.ndarray:
    """The array in a stream of `size` bytes. The header is checked before memory is allocated."""
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            header = np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    except Exception as error:  # the header is parsed as Python: it fails in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{name} has no readable npy header ({reason}): write it with numpy.save"
        ) from error
    if dtype.hasobject:
        raise DataError(
            f"{name} holds Python objects, and unpickling them could run any code: "
            "save an array of numbers"
        )
    if dtype.kind == "c":
        raise DataError(f"{name} is complex ({dtype}): save real and imaginary part as two columns")
    if dtype.kind not in "biuf":
        raise DataError(f"{name} has dtype {dtype}, not numbers: save an array of floats")
    claimed, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if claimed != held:
        raise DataError(
            f"{name} is damaged: its header states {claimed:,} bytes for shape {shape}, "
            f"{held:,} follow: write it again"
        )
    try:
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)
    except MemoryError as error:
        raise DataError(
            f"{name} does not fit into memory: {claimed:,} bytes for shape {shape}; save fewer rows"
        ) from error
    except Exception as error:  # zip and deflate errors of many kinds
        raise DataError(f"{name} cannot be read ({error}): write it again") from error
