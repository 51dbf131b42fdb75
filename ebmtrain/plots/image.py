"""Figures as bytes."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure

from ebmtrain.plots.style import DPI


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
