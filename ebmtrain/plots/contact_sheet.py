"""Many pictures in one image, scaled down, each with a caption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from ebmtrain.plots.animation import read_png
from ebmtrain.plots.style import GREY

FONT = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
TEXT_PX, LINE_PX, GAP_PX = 13, 18, 12
_MAX_COLUMNS = 6


class Tile(NamedTuple):
    """A PNG file and its caption."""

    picture: Path
    head: str
    label: str
    """At most two lines; shortened in the middle if it is longer."""


def contact_sheet(tiles: Sequence[Tile], footer: str = "") -> bytes:
    """PNG of all tiles, row by row, above a footer; without tiles, of a line that says so.
    Unreadable pictures are grey.
    """
    font = ImageFont.truetype(str(FONT), TEXT_PX)
    columns = max(1, min(_MAX_COLUMNS, len(tiles), math.ceil(math.sqrt(1.2 * len(tiles)))))
    width = 640 if len(tiles) == 1 else 420 if len(tiles) <= 6 else 320
    height = round(0.95 * width)
    labels = [_wrap_two_lines(tile.label, font, width) for tile in tiles]
    caption_height = LINE_PX * (1 + max(map(len, labels), default=0)) + 4
    column_width, row_height = width + GAP_PX, height + caption_height + GAP_PX
    footer_text = footer if tiles else "no landscape: no finished run has a picture"
    footer_height = LINE_PX + GAP_PX if footer_text else 0
    rows = math.ceil(len(tiles) / columns)
    size = (max(columns * column_width + GAP_PX, 640), rows * row_height + GAP_PX + footer_height)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for i, (tile, lines) in enumerate(zip(tiles, labels, strict=True)):
        x, y = GAP_PX + i % columns * column_width, GAP_PX + i // columns * row_height
        n = _fitting_length(tile.head, font, width)
        head = tile.head if n == len(tile.head) else f"{tile.head[: max(n - 1, 0)]}…"
        draw.text((x, y), head, "black", font)
        for j, line in enumerate(lines, 1):
            draw.text((x, y + j * LINE_PX), line, GREY, font)
        picture = read_png(tile.picture) or Image.new("RGB", (width, height), "#dddddd")
        picture.thumbnail((width, height), Image.Resampling.LANCZOS)
        canvas.paste(picture, (x, y + caption_height))
    draw.text((GAP_PX, size[1] - footer_height), footer_text, GREY, font)
    buffer = BytesIO()
    canvas.save(buffer, format="PNG")
    return buffer.getvalue()


def _wrap_two_lines(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text in at most two lines of at most `width` pixels. A longer text is shortened in the
    middle: names start alike and differ at their end.
    """
    first = _fitting_length(text, font, width)
    if first == len(text):
        return [text]
    space = text.rfind(" ", 0, first + 1)
    if space > first // 2:  # break at a space, unless that leaves the line half empty
        first = space
    rest = text[first:].strip()
    if _fitting_length(rest, font, width) < len(rest):
        n_last = _fitting_length(rest[::-1], font, width - font.getlength("…"))
        rest = f"…{rest[len(rest) - n_last :]}"
    return [text[:first], rest]


def _fitting_length(text: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """The number of first characters that fit in `width` pixels."""
    n = len(text)
    while n and font.getlength(text[:n]) > width:
        n -= 1
    return n
