"""Evaluation of a function on a regular grid in two dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ebmtrain.plots.window import Window

_CHUNK = 8192  # points per call: bounds the memory that a wide network takes


class Grid(NamedTuple):
    """Values at the centres of equal cells that tile a window."""

    x: np.ndarray
    """(columns,), ascending"""
    y: np.ndarray
    """(rows,), ascending"""
    values: np.ndarray
    """(rows, columns), float64, as returned by the function: may contain values that are not
    finite.
    """
    cell: float
    """Area of one cell, in squared units of the data."""


def evaluate_on_grid(
    function: Callable[[Tensor], Tensor], window: Window, shape: tuple[int, int]
) -> Grid:
    """Values of a function, (n, 2) -> (n,), at the centres of (columns, rows) cells that tile the
    window. It is called on float64 points on the CPU.
    """
    (columns, rows), (width, height) = shape, window.size
    x = window.low[0] + (torch.arange(columns, dtype=torch.float64) + 0.5) * (width / columns)
    y = window.low[1] + (torch.arange(rows, dtype=torch.float64) + 0.5) * (height / rows)
    values = evaluate(function, torch.cartesian_prod(y, x).flip(1)).reshape(rows, columns)
    return Grid(x.numpy(), y.numpy(), values, width * height / (columns * rows))


def evaluate(function: Callable[[Tensor], Tensor], points: Tensor) -> np.ndarray:
    """`function` at each point, (n, *event) -> (n,) in float64, in chunks and without gradient."""
    with torch.no_grad():
        parts = [function(chunk).detach().cpu().double() for chunk in points.split(_CHUNK)]
    return torch.cat(parts).reshape(-1).numpy()


def cell_counts(window: Window, longest: int) -> tuple[int, int]:
    """(columns, rows) of nearly square cells, with `longest` cells along the longer side."""
    width, height = window.shape
    cell = max(width, height) / longest
    return max(8, round(width / cell)), max(8, round(height / cell))
