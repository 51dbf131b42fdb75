"""Settings, colours, font sizes and axis labels of all figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context, rcParamsDefault
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
_SETTINGS: Any = {k: v for k, v in rcParamsDefault.items() if not k.startswith("backend")} | {
    "pdf.fonttype": 42,  # TrueType: publishers refuse type 3
    "svg.hashsalt": "ebmtrain",  # equal figures give equal files
}
_TITLE_SIZE = 12
PANEL_SIZE = 10.5
LABEL_SIZE = 9.5
SMALL_SIZE = 8.5


@contextmanager
def own_settings() -> Iterator[None]:
    """Within this context matplotlib's settings are its defaults, whatever a matplotlibrc sets.
    Both the drawing of a figure and its encoding read them."""
    with rc_context(_SETTINGS):
        yield


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
