"""Many pictures on one sheet, scaled down, each with a few words above it."""

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
TEXT_PX, LINE_PX, GAP_PX = 13, 18, 12  # pixels
_MAX_COLUMNS = 6  # columns


class Tile(NamedTuple):
    """A PNG file and the words above it."""

    picture: Path
    head: str
    label: str
    """In at most two lines, its middle left out where it is longer."""


def contact_sheet(tiles: Sequence[Tile], footer: str = "") -> bytes:
    """PNG of all tiles, row by row; of none, of a line that says so.

    Pictures that cannot be read are grey.
    """
    font = ImageFont.truetype(str(FONT), TEXT_PX)
    columns = max(1, min(_MAX_COLUMNS, len(tiles), math.ceil(math.sqrt(1.2 * len(tiles)))))
    width = 640 if len(tiles) == 1 else 420 if len(tiles) <= 6 else 320
    height = round(0.95 * width)
    labels = [wrap_two_lines(tile.label, font, width) for tile in tiles]
    above = LINE_PX * (1 + max(map(len, labels), default=0)) + 4
    across, down = width + GAP_PX, height + above + GAP_PX
    words = footer if tiles else "no landscape: no finished run has a picture"
    beneath = LINE_PX + GAP_PX if words else 0
    rows = math.ceil(len(tiles) / columns)
    size = (max(columns * across + GAP_PX, 640), rows * down + GAP_PX + beneath)
    paper = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(paper)
    for i, (tile, lines) in enumerate(zip(tiles, labels, strict=True)):
        x, y = GAP_PX + i % columns * across, GAP_PX + i // columns * down
        pen.text((x, y), _truncate(tile.head, font, width), "black", font)
        for j, line in enumerate(lines, 1):
            pen.text((x, y + j * LINE_PX), line, GREY, font)
        picture = read_png(tile.picture) or Image.new("RGB", (width, height), "#dddddd")
        picture.thumbnail((width, height), Image.Resampling.LANCZOS)
        paper.paste(picture, (x, y + above))
    pen.text((GAP_PX, size[1] - beneath), words, GREY, font)
    buffer = BytesIO()
    paper.save(buffer, format="PNG")
    return buffer.getvalue()


def wrap_two_lines(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """At most two lines that are no wider than `width` pixels. Of a text that is too long, its
    middle is left out: names begin alike and end in what tells them apart."""
    first = _fitting_length(text, font, width)
    if first == len(text):
        return [text]
    space = text.rfind(" ", 0, first + 1)
    if space > first // 2:  # whole words, unless that would leave the line half empty
        first = space
    rest = text[first:].strip()
    if _fitting_length(rest, font, width) < len(rest):
        room = _fitting_length(rest[::-1], font, width - font.getlength("…"))
        rest = f"…{rest[len(rest) - room :]}"
    return [text[:first], rest]


def _truncate(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """One line, its end left out where it is too long."""
    n = _fitting_length(text, font, width)
    return text if n == len(text) else f"{text[: max(n - 1, 0)]}…"


def _fitting_length(text: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """How many of the first characters fit."""
    n = len(text)
    while n and font.getlength(text[:n]) > width:
        n -= 1
    return n
