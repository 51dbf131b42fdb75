"""Animated GIF of a sequence of figures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

# The octree keeps rare colours, such as those of samples; the median cut turns them grey.
_PALETTE = Image.Quantize.FASTOCTREE
_MAX_PIXELS = 20_000_000


def animate(
    frames: Sequence[Path],
    *,
    width: int = 480,
    max_frames: int = 40,
    frame_ms: int = 150,
    hold_ms: int = 2000,
) -> bytes:
    """Animated GIF of PNG files, which repeats indefinitely.

    Args:
        frames: PNG files, in order; unreadable ones, for example half written, are skipped.
        width: of the animation, in pixels. All frames get the aspect ratio of the first.
        max_frames: largest number of frames; of more files this many are used, evenly spaced, with
            the first and the last.
        frame_ms: duration of a frame, in milliseconds.
        hold_ms: duration of the last frame, in milliseconds.

    Raises:
        ValueError: no file could be read.
    """
    size = None
    images: list[Image.Image] = []
    for path in _pick_evenly(frames, max_frames):
        picture = read_png(path)
        if picture is None:
            continue
        size = size or (width, max(1, round(width * picture.height / picture.width)))
        images.append(picture.resize(size, Image.Resampling.LANCZOS))
    if not images:
        raise ValueError(f"an animation needs a readable picture, got none of {len(frames)}")
    return encode_gif(images, frame_ms=frame_ms, hold_ms=hold_ms)


def encode_gif(images: Sequence[Image.Image], *, frame_ms: int = 150, hold_ms: int = 2000) -> bytes:
    """Animated GIF of one or more RGB images of equal size, which repeats indefinitely; durations
    of a frame and of the last one in milliseconds.
    """
    first, *rest = [i.quantize(256, _PALETTE, dither=Image.Dither.NONE) for i in images]
    buffer = BytesIO()
    durations = [frame_ms] * len(rest) + [hold_ms]
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0)
    return buffer.getvalue()


def _pick_evenly(frames: Sequence[Path], limit: int) -> list[Path]:
    """At most `limit` of the frames, evenly spaced, with the first and the last."""
    if len(frames) <= limit:
        return list(frames)
    last = len(frames) - 1
    return [frames[round(i * last / max(limit - 1, 1))] for i in range(limit - 1)] + [frames[last]]


def read_png(path: Path) -> Image.Image | None:
    """The PNG file as an RGB image; None if it is incomplete or has more than 20 million pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as picture:
                return picture.convert("RGB") if math.prod(picture.size) <= _MAX_PIXELS else None
    # Pillow raises any of these for a broken PNG.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
