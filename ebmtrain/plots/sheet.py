"""Many pictures on one sheet, scaled down, each with a few words above it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from ebmtrain.plots.animation import read
from ebmtrain.plots.style import MUTED

FONT = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
TEXT, LINE, GAP = 13, 18, 12  # pixels
WIDEST = 6  # columns


class Tile(NamedTuple):
    """A PNG file and the words above it."""

    picture: Path
    head: str
    """In at most two lines, its middle left out where it is longer."""
    score: str


def sheet(tiles: Sequence[Tile], footer: str = "") -> bytes:
    """PNG of all tiles, row by row; of none, of a line that says so.

    Pictures that cannot be read are grey.
    """
    columns = max(1, min(WIDEST, math.ceil(math.sqrt(len(tiles) * 1.2))))
    width = 640 if len(tiles) == 1 else 420 if len(tiles) <= 6 else 320
    height, above = round(0.95 * width), 3 * LINE + 4
    rows = math.ceil(len(tiles) / columns)
    words = footer if tiles else f"no landscape: no finished run has a picture. {footer}".strip()
    size = (
        max(columns * (width + GAP) + GAP, 520),
        rows * (height + above + GAP) + GAP + (LINE + GAP if words else 0),
    )
    paper = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(paper), ImageFont.truetype(str(FONT), TEXT)
    for i, tile in enumerate(tiles):
        x, y = (GAP + k * s for k, s in zip((i % columns, i // columns),
                                            (width + GAP, height + above + GAP), strict=True))  # fmt: skip
        for j, line in enumerate(lines_of(tile.head, font, width)):
            pen.text((x, y + j * LINE), line, "black", font)
        pen.text((x, y + 2 * LINE), tile.score, MUTED, font)
        picture = read(tile.picture) or Image.new("RGB", (width, height), "#dddddd")
        picture.thumbnail((width, height), Image.Resampling.LANCZOS)
        paper.paste(picture, (x, y + above))
    if words:
        pen.text((GAP, size[1] - LINE - GAP // 2), words, MUTED, font)
    buffer = BytesIO()
    paper.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def lines_of(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """At most two lines that are no wider than `width` pixels. Of a text that is too long, its
    middle is left out: names begin alike and end in what tells them apart."""
    first = fitting(text, font, width)
    rest = text[first:].strip()
    if not rest:
        return [text]
    space = text.rfind(" ", 0, first)
    if space > first // 2:  # whole words, unless that would leave the line half empty
        first, rest = space, text[space:].strip()
    if fitting(rest, font, width) < len(rest):
        room = fitting(rest[::-1], font, width - round(font.getlength("… ")))
        rest = f"…{rest[-room:]}"
    return [text[:first], rest]


def fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """How many of the first characters fit."""
    n = len(text)
    while n and font.getlength(text[:n]) > width:
        n -= 1
    return n
