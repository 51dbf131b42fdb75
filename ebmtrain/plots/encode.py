"""Encoding of figures as image files."""

from __future__ import annotations

from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ebmtrain.plots.style import DPI


def encode_png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as a PNG file; equal figures give equal bytes."""
    buffer, canvas = BytesIO(), FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    # Not by savefig, which draws twice: once without colours, for the layout.
    canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
