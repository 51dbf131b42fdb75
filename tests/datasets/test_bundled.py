"""The tables that come with scikit-learn."""

from __future__ import annotations

import pytest
import torch
from sklearn import datasets

from ebmtrain.datasets.bundled import bundled


@pytest.mark.parametrize(
    ("name", "rows", "first"),
    [("wine", 178, "alcohol"), ("breast_cancer", 569, "mean radius"),
     ("iris", 150, "sepal length (cm)")],
)  # fmt: skip
def test_a_bundled_table_is_complete_and_named(name, rows, first):
    points = bundled(name=name, seed=3)
    table = getattr(datasets, f"load_{name}")().data
    every = torch.cat([points.train, points.holdout])
    assert len(every) == rows
    assert len(points.holdout) == round(0.2 * rows)
    assert points.names is not None
    assert (points.names[0], len(points.names)) == (first, table.shape[1])
    assert sorted(map(tuple, every.tolist())) == sorted(map(tuple, table.tolist()))
    assert not torch.equal(points.train, bundled(name=name, seed=4).train)
