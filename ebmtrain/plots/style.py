"""Colours, font sizes and axis labels of all figures, always passed as arguments."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette, distinguishable for colour-blind readers.
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
    """An empty figure with its own Agg canvas and constrained layout; sizes in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    if title:  # not parsed as mathematics, since run names may contain any character
        figure.suptitle(title, fontsize=_TITLE_SIZE, parse_math=False)
    return figure


def label_axes(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Title, axis labels, tick sizes and frame of one panel."""
    if title:
        axes.set_title(title, fontsize=PANEL_SIZE, parse_math=False)
    axes.set_xlabel(x, fontsize=LABEL_SIZE)
    axes.set_ylabel(y, fontsize=LABEL_SIZE)
    axes.tick_params(labelsize=SMALL_SIZE, color=GREY)
    for spine in axes.spines.values():
        spine.set_color(GREY)
        spine.set_linewidth(0.7)


_MAX_LABEL_LETTERS = 24


def short_label(name: str) -> str:
    """A column's name as an axis label, shortened to 24 characters."""
    long = len(name) > _MAX_LABEL_LETTERS
    return escape_math(f"{name[: _MAX_LABEL_LETTERS - 1]}…" if long else name)


def escape_math(name: str) -> str:
    """A foreign name as a label: its dollar signs are escaped, which matplotlib would read as
    mathematics.
    """
    return name.replace("$", r"\$")
