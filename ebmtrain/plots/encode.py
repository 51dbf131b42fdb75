"""Encoding of figures as image files; equal figures give equal bytes."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ebmtrain.plots.style import DPI


def encode_png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as a PNG file."""
    buffer, canvas = BytesIO(), FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    # Not by savefig, which draws twice: once without colours, for the layout.
    canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def encode_vector(figure: Figure, suffix: Literal["pdf", "svg"], dpi: int = DPI) -> bytes:
    """The figure as a PDF or SVG file; `dpi` is the resolution of images in it."""
    buffer, date = BytesIO(), {"pdf": "CreationDate", "svg": "Date"}[suffix]
    figure.savefig(buffer, format=suffix, dpi=dpi, metadata={date: None})
    return buffer.getvalue()
