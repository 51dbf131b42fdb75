"""Values that are far from all others of their column are named with their row."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from repeats import normal

from ebmtrain.datasets import extremes
from ebmtrain.datasets.extremes import extreme_values
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization


def points(x: torch.Tensor, **options) -> Points:
    units = fit_standardization(x, True)
    return Points(
        x[:700], x[700:], standardization=units, row_numbers=torch.arange(len(x)), **options
    )


@pytest.mark.parametrize("row", [3, 800])
@pytest.mark.parametrize("rows_at_once", [4096, 100])
def test_the_row_and_the_column_are_named(row, rows_at_once, monkeypatch):
    monkeypatch.setattr(extremes, "_ROWS", rows_at_once)
    x = normal(1000, 3, seed=0)
    x[row, 1] = -1e4
    (warning,) = extreme_values(points(x, names=("a", "b", "c")))
    assert f"-1e+04 (row {row + 1}, b; half of the column is within" in warning
    (unknown,) = extreme_values(replace(points(x), row_numbers=None))
    assert "-1e+04 (column 2; half" in unknown


def test_usual_values_are_no_extremes():
    assert extreme_values(points(normal(1000, 3, seed=0))) == []
    part = normal(1000, 1, seed=1)
    part[::4] += 100
    assert extreme_values(points(part)) == []
    constant = torch.zeros(1000, 2).double()
    constant[:300, 0] = 1e6
    assert extreme_values(points(constant)) == []


def test_pixels_are_no_extremes():
    x = torch.rand(1000, 2, 2).double()
    x[5, 0, 1] = 255
    assert extreme_values(points(x, pixels=(0.0, 255.0))) == []
    assert len(extreme_values(points(x))) == 1
