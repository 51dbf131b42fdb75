"""The IDX format of MNIST: two zero bytes, the type of the numbers, the number of axes, the length
of each axis in four bytes (big-endian), then the numbers."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np

from ebmtrain.datasets.io.folders import read_bytes
from ebmtrain.errors import DataError

_ENDINGS = ("-idx{}-ubyte", ".idx{}-ubyte", "-idx{}-ubyte.gz", ".idx{}-ubyte.gz")
_CONTENTS = {1: "labels", 3: "images"}  # by the number of axes
_UNSIGNED_BYTES = 0x08
_GZIP = b"\x1f\x8b"
_MAX_COMPRESSION_RATIO = 1040  # of deflate


def find_idx_file(folder: Path, start: str, axes: int) -> Path | None:
    """The file with `axes` axes under one of its usual names; None: it does not exist."""
    files = (folder / f"{start}{ending.format(axes)}" for ending in _ENDINGS)
    return next((file for file in files if file.exists()), None)


def read_idx(path: Path, *, axes: int = 3) -> np.ndarray:
    """Unsigned bytes of a plain or compressed file, n >= 1: images (n, height, width) with `axes` 3
    or labels (n,) with `axes` 1.

    Raises:
        DataError: the file is damaged or holds other data.
    """
    try:
        return _parse(read_bytes(path), str(path), axes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} cannot be unpacked ({error}): get it again") from error


def _parse(data: bytes, name: str, axes: int) -> np.ndarray:
    what = _CONTENTS[axes]
    compressed = data[:2] == _GZIP
    stream = gzip.GzipFile(fileobj=io.BytesIO(data)) if compressed else io.BytesIO(data)
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise DataError(
            f"{name} begins with {head.hex(' ') or 'nothing'}, not with 00 00 08 0{axes}: it is "
            f"not an IDX file of {what}; get the original again"
        )
    if head[2] != _UNSIGNED_BYTES:
        instead = ", or others as an npy file and dataset=file" if axes == 3 else ""
        raise DataError(
            f"{name} holds numbers of type 0x{head[2]:02x}, not unsigned bytes (0x08): write "
            f"{what} as bytes{instead}"
        )
    if head[3] != axes:
        raise DataError(
            f"{name} has {head[3]} axes and holds {_CONTENTS.get(head[3], f'no {what}')}: {axes} "
            f"{'is' if axes == 1 else 'are'} expected, as in idx{axes}: get the original {what}"
        )
    lengths = stream.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise DataError(f"{name} is truncated within its header: get it again")
    shape = tuple(int.from_bytes(lengths[4 * i : 4 * i + 4], "big") for i in range(axes))
    claimed = math.prod(shape)
    if not claimed:
        raise DataError(f"{name} holds no {what} (shape {shape}): get it again")
    # Before memory is allocated.
    if claimed > len(data) * (_MAX_COMPRESSION_RATIO if compressed else 1):
        raise DataError(f"{name} is truncated: its header states {claimed:,} bytes: get it again")
    values = stream.read(claimed + 1)
    if len(values) != claimed:
        held = f"{len(values):,}" if len(values) < claimed else "more"
        raise DataError(
            f"{name} is damaged: its header states {claimed:,} bytes for shape {shape}, {held} "
            "follow: get it again"
        )
    return np.frombuffer(values, np.uint8).reshape(shape)
