"""Colours and small habits shared by all figures, always passed as arguments."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
DATA = "#0072B2"
MODEL = "#D55E00"
TRUTH = "#222222"
GREEN = "#009E73"
SKY_BLUE = "#56B4E9"
ORANGE = "#E69F00"
PURPLE = "#CC79A7"
GREY = "#666666"
COLORMAP = "viridis"
DPI = 110
_TITLE_SIZE = 12
PANEL_SIZE = 10.5
LABEL_SIZE = 9.5
SMALL_SIZE = 8.5


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """An empty figure, sizes in inches, with its own Agg canvas and automatic layout."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    if title:  # not parsed as mathematics: run names may hold any character
        figure.suptitle(title, fontsize=_TITLE_SIZE, parse_math=False)
    return figure


def label_axes(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Title, labels and tick sizes of one panel."""
    if title:
        axes.set_title(title, fontsize=PANEL_SIZE, parse_math=False)
    axes.set_xlabel(x, fontsize=LABEL_SIZE)
    axes.set_ylabel(y, fontsize=LABEL_SIZE)
    axes.tick_params(labelsize=SMALL_SIZE, color=GREY)
    for spine in axes.spines.values():
        spine.set_color(GREY)
        spine.set_linewidth(0.7)


_MAX_LABEL_LETTERS = 24  # letters of a name


def short_label(name: str) -> str:
    """A column's name, for the label of an axis."""
    return escape_math(
        name if len(name) <= _MAX_LABEL_LETTERS else f"{name[: _MAX_LABEL_LETTERS - 1]}…"
    )


def escape_math(name: str) -> str:
    """Of somebody else's, for a label: a dollar in it is a dollar and begins no mathematics."""
    return name.replace("$", r"\$")
