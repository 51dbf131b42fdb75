"""A run's landscapes, one after another."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

# The octree keeps rare colours, such as those of the samples; the median cut turns them grey.
_PALETTE = Image.Quantize.FASTOCTREE
_MAX_PIXELS = 20_000_000  # pixels


def animate(
    frames: Sequence[Path],
    *,
    width: int = 480,
    max_frames: int = 40,
    frame_ms: int = 150,
    hold_ms: int = 2000,
) -> bytes:
    """PNG files, in order -> an animated GIF that loops for ever.

    Args:
        frames: pictures; those that cannot be read, as one half written, are skipped.
        width: of the animation, in pixels. All frames take the shape of the first.
        max_frames: of more pictures, this many are evenly picked, the first and last included.
        frame_ms: how long a frame stays.
        hold_ms: how long the last one stays.

    Raises:
        ValueError: no picture could be read.
    """
    size = None
    images: list[Image.Image] = []
    for path in evenly_picked(frames, max_frames):
        picture = read_png(path)
        if picture is None:
            continue
        size = size or (width, max(1, round(width * picture.height / picture.width)))
        images.append(picture.resize(size, Image.Resampling.LANCZOS))
    if not images:
        raise ValueError(f"an animation needs a readable picture, got none of {len(frames)}")
    return encode_gif(images, frame_ms=frame_ms, hold_ms=hold_ms)


def encode_gif(images: Sequence[Image.Image], *, frame_ms: int = 150, hold_ms: int = 2000) -> bytes:
    """Pictures in RGB, all of one size -> an animated GIF that loops for ever and holds the last
    one."""
    first, *rest = [i.quantize(256, _PALETTE, dither=Image.Dither.NONE) for i in images]
    buffer = BytesIO()
    durations = [frame_ms] * len(rest) + [hold_ms]
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0)
    return buffer.getvalue()


def evenly_picked(frames: Sequence[Path], limit: int) -> list[Path]:
    """At most `limit` of the frames, evenly spaced, the first and last included."""
    if len(frames) <= limit:
        return list(frames)
    last = len(frames) - 1
    return [frames[round(i * last / max(limit - 1, 1))] for i in range(limit - 1)] + [frames[last]]


def read_png(path: Path) -> Image.Image | None:
    """The PNG in RGB, or None where there is no whole picture or one that is larger than ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as picture:
                return picture.convert("RGB") if math.prod(picture.size) <= _MAX_PIXELS else None
    # Pillow reports broken PNGs as any of these.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
