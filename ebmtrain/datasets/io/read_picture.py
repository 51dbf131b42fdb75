"""Pixels of one picture file, as a viewer shows them."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ebmtrain.datasets.io.folders import read_bytes
from ebmtrain.errors import DataError

_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp")
_MODES = {1: "L", 3: "RGB"}
_MAX_PIXELS = 50_000_000  # per picture
_DEEP_GRAY = ("I;16", "I;16B", "I;16L", "I;16N")
_SIGNATURES = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
_WHITE = (255, 255, 255, 255)


class Picture(NamedTuple):
    pixels: np.ndarray
    """uint8, (height, width) of a gray picture, (3, height, width) of a coloured one."""
    depth: int
    """Bits per sample in the file: 16 are scaled to 8."""


def read_picture(file: Path, size: list[int] | None, channels: int | None) -> Picture:
    """The pixels of a picture that is not animated.

    Palettes, CMYK and 16-bit gray are converted, the orientation and the colour profile in the file
    are applied. Transparent pixels are composited over white if `channels` are given, else refused.

    Args:
        size: height and width to resize to; None: as in the file.
        channels: 1: convert to gray, 3: to RGB; None: as in the file.

    Raises:
        DataError: the file is no picture, damaged, animated or too large, or its pixels have no
            unambiguous value from 0 to 255.
    """
    data = read_bytes(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, and of damaged metadata
            with Image.open(BytesIO(data), formats=_FORMATS) as picture:
                _check_header(file, picture)
                picture.load()
                gray_or_rgb = _composite(file, _oriented(picture), channels)
    except UnidentifiedImageError as error:
        if data.startswith(_SIGNATURES):
            raise DataError(
                f"{file} is damaged or of a rare kind: get it again, or save it as PNG"
            ) from error
        raise DataError(
            f"{file} is not a picture (it begins with {data[:8]!r}): delete it or move it away"
        ) from error
    except DataError:
        raise
    except Exception as error:  # Pillow raises errors of many kinds for an invalid file
        reason = (str(error).replace(str(file), "").splitlines() or ["damaged"])[0]
        raise DataError(f"{file} is not a complete image ({reason}): get it again") from error
    if channels is not None:
        gray_or_rgb = gray_or_rgb.convert(_MODES[channels])
    if size is not None:
        gray_or_rgb = gray_or_rgb.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    array = np.asarray(gray_or_rgb)
    return Picture(
        array if array.ndim == 2 else array.transpose(2, 0, 1),
        16 if picture.mode in _DEEP_GRAY else 8,
    )


def _check_header(file: Path, picture: Image.Image) -> None:
    """Refuses a picture for what its header states."""
    if picture.width * picture.height > _MAX_PIXELS:
        raise DataError(
            f"{file} has {picture.width} x {picture.height} pixels, more than "
            f"{_MAX_PIXELS:,}: make it smaller"
        )
    frames = getattr(picture, "n_frames", 1)
    # The further frames of an MPO, a JPEG of a camera, are previews and depth maps.
    if frames > 1 and picture.format != "MPO":
        raise DataError(
            f"{file} has {frames} frames: save each as a picture of its own, or move it away"
        )
    if picture.mode in ("I", "F"):
        raise DataError(
            f"{file} has 32-bit pixels (mode {picture.mode}), and no viewer defines which are "
            "black and white: save it with 8 or 16 bits"
        )


def _oriented(picture: Image.Image) -> Image.Image:
    """The picture rotated and mirrored as its EXIF tag states; a damaged tag is ignored."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # EXIF is parsed lazily and fails in many ways
        return picture


def _composite(file: Path, picture: Image.Image, channels: int | None) -> Image.Image:
    """The picture in mode L or RGB, without alpha and colour profile."""
    gray = picture.mode in ("1", "L", "LA", "La", *_DEEP_GRAY)
    transparent = picture.has_transparency_data
    if picture.mode in _DEEP_GRAY:
        deep = np.asarray(picture).astype(np.uint32)
        if transparent and (deep == picture.info["transparency"]).any():
            raise DataError(f"{file} has transparent pixels of 16 bits: save it without")
        return Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    if transparent:
        with_alpha = picture.convert("LA" if gray else "RGBA").convert("RGBA")
        if with_alpha.getchannel("A").getextrema() != (255, 255):
            if channels is None:
                raise DataError(
                    f"{file} has transparent pixels: give dataset.channels=3 (or 1), which puts "
                    "every picture on white, or save it without transparency"
                )
            white = Image.new("RGBA", with_alpha.size, _WHITE)
            with_alpha = Image.alpha_composite(white, with_alpha)
        picture = with_alpha.convert("RGB")
    return _to_srgb(picture).convert("L" if gray else "RGB")


def _to_srgb(picture: Image.Image) -> Image.Image:
    """The picture in the colours of sRGB, if it has a valid profile of other colours."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in ("RGB", "CMYK"):
        return picture
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return picture
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, source, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # a damaged profile, or one of another colour space
        return picture
    return picture if converted is None else converted
