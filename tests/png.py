"""A writer of PNG files that shares no code with the reader under test."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np


def png(path: Path, samples: np.ndarray, kind: int, bits: int = 8, **chunks: bytes) -> Path:
    """A PNG without a library: samples (height, width, ...), `kind` and `bits` of its standard."""
    height, width = samples.shape[:2]
    if bits == 16:
        rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    elif bits == 8:
        rows = samples.reshape(height, -1)
    else:
        single = np.unpackbits(samples[..., None], axis=-1)[..., 8 - bits :]
        rows = np.packbits(single.reshape(height, -1), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = {"IHDR": struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0), **chunks}
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + name.encode() + data
            + struct.pack(">I", zlib.crc32(name.encode() + data))
            for name, data in {**parts, "IDAT": zlib.compress(raw), "IEND": b""}.items()
        )
    )  # fmt: skip
    return path
