"""Scaling of the time per step with B, k, width and dimension: fits, their table and plot.

Over B and k the model is a line, a + b x, with b in microseconds per unit, a the intercept, and
the largest relative error of the fit. Over width and dimension it is a power law, with the slope
d log(time) / d log(x) by least squares over all values, and between the two largest, where matrix
products dominate.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

SWEPT = ("ebmtrain", "ebmtrain_compiled", "by_hand", "torchebm", "jax", "floor")
LINEAR = ("batch", "k")
NAMES = {"batch": "B", "dim": "dimension"}

Points = list[tuple[float, float]]


def of(sweeps: list[dict[str, Any]], name: str, tool: str) -> Points:
    """(value, microseconds per step), sorted by value."""
    mine = [row for row in sweeps if (row["swept"], row["tool"]) == (name, tool)]
    return sorted((row[name], row["us_per_step"]) for row in mine)


def power(points: Points) -> float:
    """The slope of log y over log x, by least squares."""
    x, y = np.log(np.array(points, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])


def line(points: Points) -> tuple[float, float, float]:
    """a and b of the least-squares line of the relative errors, and the largest of these errors.

    Relative errors, because each point is measured to a fraction of its own time.
    """
    x, y = np.array(points, dtype=float).T
    a, b = np.linalg.lstsq(np.stack([1 / y, x / y], 1), np.ones_like(y), rcond=None)[0]
    return float(a), float(b), float(np.abs((a + b * x) / y - 1).max())


def swept_names(sweeps: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["swept"] for row in sweeps))


def table(sweeps: list[dict[str, Any]]) -> str:
    names = swept_names(sweeps)
    if not names:
        return "The sweeps have not been run."
    lines = [
        f"By {sweeps[0]['method']}, one size swept, the others as in the first rows.", "",
        "![microseconds per step over B, width, dimension and k](images/speed.png)", "",
        "| swept | tool | first, us | last, us | log-log slope | at the end | us for 0 "
        "| us per unit | off the line |", "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name in names:
        for tool in SWEPT:
            points = of(sweeps, name, tool)
            if len(points) < 2:
                continue
            (low, first), (high, last) = points[0], points[-1]
            row = f"| {NAMES.get(name, name)} {low:g} to {high:g} | {tool} | {first:.0f} "
            row += f"| {last:.0f} | {power(points):.2f} | {power(points[-2:]):.2f} "
            if name in LINEAR:
                a, b, off = line(points)
                row += f"| {a:.0f} | {significant(b)} | {off:.0%} |"
            else:
                row += "| | | |"
            lines.append(row)
    return "\n".join(lines)


def significant(value: float) -> str:
    """`value` with three significant digits and without an exponent."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, digits)}f}"


def plot(sweeps: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    names = swept_names(sweeps)
    if not names:
        return
    figure = Figure(figsize=(3.6 * len(names) + 1.8, 3.4), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    shades = ("#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#777777")
    colours = dict(zip(SWEPT, shades, strict=True))
    for ax, name in zip(axes, names, strict=True):
        for tool in SWEPT:
            points = of(sweeps, name, tool)
            if points:
                style = "--" if tool == "floor" else "o-"
                ax.loglog(*zip(*points, strict=True), style, color=colours[tool], label=tool)
        ax.set_xlabel(NAMES.get(name, name))
    axes[0].set_ylabel("microseconds per step")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
