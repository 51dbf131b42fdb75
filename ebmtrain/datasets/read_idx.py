"""The IDX format of MNIST: two zero bytes, the type of the numbers, the number of axes, the length
of each axis in four bytes, the highest first, and then the numbers."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np

from ebmtrain.datasets.folders import content
from ebmtrain.errors import DataError

UNSIGNED_BYTES = 0x08
GZIP = b"\x1f\x8b"
MOST_DEFLATED = 1040  # how many times smaller than itself a file may be that deflate has made


def read_idx(path: Path) -> np.ndarray:
    """Images, (n, height, width) of unsigned bytes, n >= 1; compressed or not.

    Raises:
        DataError: it is damaged, or holds something else.
    """
    data = content(path)
    try:
        return images_in(data, str(path))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} cannot be unpacked ({error}): get it again") from error


def images_in(data: bytes, name: str) -> np.ndarray:
    compressed = data[:2] == GZIP
    stream = gzip.GzipFile(fileobj=io.BytesIO(data)) if compressed else io.BytesIO(data)
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise DataError(
            f"{name} begins with {head.hex(' ') or 'nothing'}, not with 00 00 08 03: it is no IDX "
            "file of images; get the original again"
        )
    if head[2] != UNSIGNED_BYTES:
        raise DataError(
            f"{name} holds numbers of type 0x{head[2]:02x}, not unsigned bytes (0x08): write "
            "images as bytes, or others as an npy file and dataset=file"
        )
    if head[3] != 3:
        what = "labels" if head[3] == 1 else "no images"
        raise DataError(f"{name} has {head[3]} axes and holds {what}: 3 are wanted, as in idx3")
    lengths = stream.read(12)
    if len(lengths) < 12:
        raise DataError(f"{name} is truncated within its header: get it again")
    shape = tuple(int.from_bytes(lengths[i : i + 4], "big") for i in (0, 4, 8))
    claimed = math.prod(shape)
    if not claimed:
        raise DataError(f"{name} holds no images (shape {shape}): get it again")
    if claimed > len(data) * (MOST_DEFLATED if compressed else 1):  # before memory is taken
        raise DataError(f"{name} is truncated: its header promises {claimed:,} bytes: get it again")
    pixels = stream.read(claimed + 1)
    if len(pixels) != claimed:
        held = f"{len(pixels):,}" if len(pixels) < claimed else "more"
        raise DataError(
            f"{name} is damaged: its header promises {claimed:,} bytes for shape {shape}, {held} "
            "follow: get it again"
        )
    return np.frombuffer(pixels, np.uint8).reshape(shape)
