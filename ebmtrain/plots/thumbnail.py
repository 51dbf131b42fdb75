"""Small copies of pictures, for pages that hold many."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image

from ebmtrain.plots.animation import read_png

_WIDEST_PX, _NARROWEST_PX = 900, 80
_BYTES_PER_PIXEL = 0.14  # of WebP at this quality, for contours with points; measured
_QUALITY = 70


def thumbnail(path: Path, max_bytes: int) -> bytes | None:
    """The PNG file as WebP of at most `max_bytes`, scaled down as far as that takes; None if the
    file is unreadable or does not fit at a width of 80 pixels."""
    picture = read_png(path)
    if picture is None:
        return None
    per_row = _BYTES_PER_PIXEL * picture.height / picture.width
    width = min(_WIDEST_PX, picture.width, int((max_bytes / per_row) ** 0.5))
    while width >= _NARROWEST_PX:
        buffer, size = BytesIO(), (width, max(1, round(width * picture.height / picture.width)))
        small = picture.resize(size, Image.Resampling.HAMMING)
        small.save(buffer, "WEBP", quality=_QUALITY, method=2)
        if buffer.tell() <= max_bytes:
            return buffer.getvalue()
        width = int(0.8 * width)
    return None
