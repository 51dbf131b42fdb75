"""What a run says and shows of its model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.evaluation.protocol import Evaluation
from ebmtrain.plots.landscape import landscape
from ebmtrain.plots.samples import samples
from ebmtrain.runs.evaluate import _drop_nonfinite
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.sampling import chain_starts
from ebmtrain.runs.storage.rundir import RunDir


def test_non_finite_metrics_are_left_out_with_warnings():
    metrics = {"log_z": 1.0, "nll": -math.inf, "nll_se": math.nan, "mode_weights": [0.5, math.nan]}
    kept, warnings = _drop_nonfinite(Evaluation(metrics, ["log Z is uncertain"]))
    assert kept == {"log_z": 1.0}
    assert [warning.split()[0] for warning in warnings] == ["log", "nll", "nll_se", "mode_weights"]
    assert "nll is -inf, left out" in warnings[1]


def test_chains_that_start_at_data_start_at_training_points(configured):
    experiment = build(configured("dataset.n_train=60", "dataset.n_holdout=60"))
    first = chain_starts(experiment, experiment.energy, "data", 60, {}, torch.Generator())
    train, holdout = (
        experiment.standardization.to_standard(x).to(first)
        for x in (experiment.dataset.train, experiment.dataset.holdout)
    )
    assert torch.equal(first.sort(0).values, train.sort(0).values)
    assert torch.cdist(first, holdout).min() > 0


def test_chains_start_at_points_of_the_method_if_it_draws_some(configured):
    """An untrained dual model is the Gaussian of the data; noise is uniform in their region."""
    experiment = build(configured("method=dual", "dataset.n_train=400"))
    energy, few = experiment.energy, (200, {})

    def start(kind: str):
        return chain_starts(experiment, energy, kind, *few, torch.Generator().manual_seed(3))

    own = experiment.method.draw(energy, 200, torch.Generator().manual_seed(3))  # type: ignore
    assert torch.equal(start("chains"), own)
    assert not torch.equal(start("noise"), own)


@pytest.mark.parametrize(
    ("head", "names"), [("", ("$x_1$", "$x_2$")), ("width,price $\n", ("width", r"price \$"))]
)
def test_axes_are_named_after_the_columns(tmp_path: Path, head, names):
    path = tmp_path / "table.csv"
    path.write_text(head + "".join(f"{i / 2},{i * i % 7}\n" for i in range(200)))
    words = ["dataset=file", f"dataset.path={path}", "train.batch_size=8"]
    figures = RunFigures(build(presets.to_plain(presets.compose_config(words))), RunDir(tmp_path))
    assert figures.data is not None
    figures = [
        landscape(lambda x: x.square().sum(1), figures.window, data=figures.data),
        samples(figures.data, figures.data, figures.window),
    ]
    for figure in figures:
        first = figure.axes[0]
        assert (first.get_xlabel(), first.get_ylabel()) == names
