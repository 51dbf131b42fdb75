import math
from typing import Any

import pytest
import torch

from ebmtrain.plots.curves import MIN_KL_NATS, curves
from ebmtrain.plots.encode import encode_png
from ebmtrain.plots.progress import progress
from ebmtrain.plots.window import Window


def rows_of(count, **metrics):
    return [{"step": 10.0 * i, **{k: f(i) for k, f in metrics.items()}} for i in range(count)]


def panels(figure) -> dict[str, Any]:
    return {axes.get_title(): axes for axes in figure.axes}


def test_only_panels_with_metrics():
    rows = rows_of(30, loss=lambda i: 1 / (i + 1), energy_data=float, energy_model=float)
    assert set(panels(curves(rows))) == {"energies", "loss"}


def test_every_metric_has_a_panel():
    keys = "loss energy_data energy_model grad_norm kl nll regret acceptance clipped step_size lr"
    figure = curves(rows_of(300, **{key: lambda i: 0.5 for key in keys.split()}), "all")
    assert len(figure.axes) == 6
    assert encode_png(figure, 30)


@pytest.mark.parametrize(
    ("keys", "title"),
    [
        (["kl", "regret", "nll"], "KL(data || model)"),
        (["regret", "nll"], "regret: NLL above the entropy"),
        (["nll"], "negative log-likelihood"),
    ],
)
def test_the_most_informative_quality_metric_is_shown(keys, title):
    assert set(panels(curves(rows_of(5, **dict.fromkeys(keys, float))))) == {title}


def test_rare_evaluations_keep_their_steps():
    rows = rows_of(100, loss=float)
    rows[0]["kl"], rows[50]["kl"] = 1.0, 0.1
    shown = panels(curves(rows))
    line = shown["KL(data || model)"].lines[0]
    assert list(line.get_xdata()) == [0.0, 500.0]
    assert shown["KL(data || model)"].get_xlim() == shown["loss"].get_xlim()


def test_kl_is_logarithmic_with_a_floor():
    axes = panels(curves(rows_of(4, kl=lambda i: [1.0, 0.1, -1e-7, 0.0][i])))["KL(data || model)"]
    assert axes.get_yscale() == "log"
    assert list(axes.lines[0].get_ydata()) == [1.0, 0.1, MIN_KL_NATS, MIN_KL_NATS]
    assert "not below 0.0001" in axes.get_ylabel()


def test_kl_below_its_floor_has_one_mark_only():
    axes = panels(curves(rows_of(4, kl=lambda i: [1.0, 0.1, 1e-7, 0.0][i])))["KL(data || model)"]
    assert [line.get_marker() for line in axes.lines] == ["o"]
    assert not axes.texts


def test_kl_that_is_never_positive_is_linear():
    axes = panels(curves(rows_of(4, kl=lambda i: -1.0 * i)))["KL(data || model)"]
    assert axes.get_yscale() == "linear"


@pytest.mark.parametrize("count", [1, 5, 400])
def test_nonfinite_values_are_left_out_and_marked(count):
    broken = [math.nan, math.inf, -math.inf]
    rows = rows_of(
        count, loss=lambda i: broken[i % 3] if i >= count // 2 else 1.0,
        grad_norm=lambda i: math.nan, kl=lambda i: broken[i % 3],
    )  # fmt: skip
    figure = curves(rows)
    labels = panels(figure)["loss"].get_legend_handles_labels()[1]
    assert "first value not finite" in labels
    assert encode_png(figure, 30)


def test_a_spike_does_not_flatten_the_curve():
    rows = rows_of(300, loss=lambda i: 1e9 if i == 0 else math.sin(i))
    assert panels(curves(rows))["loss"].get_ylim()[1] < 3


def test_values_outside_the_view_are_marked_at_its_edge():
    """The first energies of the default run, far below all others."""
    rows = rows_of(
        30, energy_data=lambda i: -1.37 if i == 0 else -0.03,
        loss=lambda i: -1.0 if i == 0 else 0.01 * i,
        energy_model=lambda i: 0.01 * math.sin(i),
    )  # fmt: skip
    figure = curves(rows)
    for axes, value in ((panels(figure)["energies"], "-1.37"), (panels(figure)["loss"], "-1")):
        assert axes.get_ylim()[0] > -0.5
        (mark,) = [line for line in axes.lines if line.get_marker() == "v"]
        assert list(mark.get_xdata()) == [0.0]
        assert [text.get_text() for text in axes.texts] == [value]
    assert encode_png(figure, 30)


def test_a_learning_rate_decaying_to_zero_does_not_compress_the_panel():
    rows = rows_of(30, step_size=lambda i: 0.03, lr=lambda i: 3e-10 if i == 29 else 1e-3 / (1 + i))
    axes = panels(curves(rows))["step sizes"]
    assert axes.get_ylim()[0] > 3e-7
    assert [text.get_text() for text in axes.texts] == ["3e-10"]
    (mark,) = [line for line in axes.lines if line.get_marker() == "v"]
    assert list(mark.get_xdata()) == [290.0]
    (rate,) = [line for line in axes.lines if line.get_label() == "learning rate"]
    low, high = axes.get_ylim()
    inside = [y for y in rate.get_ydata() if low <= y <= high]
    assert len(inside) == 29  # the last one is the mark, and no dot stands next to it


def test_chain_curves_are_labelled_and_the_target_is_drawn():
    keys = {"acceptance": "steps accepted", "jump_acceptance": "jumps accepted",
            "swapped": "swaps accepted", "clipped": "clipped"}  # fmt: skip
    axes = panels(curves(rows_of(5, **dict.fromkeys(keys, lambda i: 0.2)), target=0.574))["chain"]
    assert axes.get_legend() is not None
    assert set(axes.get_legend_handles_labels()[1]) == {*keys.values(), "target"}
    colours = [line.get_color() for line in axes.lines]
    assert len(set(colours)) == 5
    (target,) = [line for line in axes.lines if line.get_label() == "target"]
    assert list(target.get_ydata()) == [0.574, 0.574]
    (alone,) = curves(rows_of(5, acceptance=lambda i: 0.2)).axes
    assert [text.get_text() for text in alone.get_legend().get_texts()] == ["steps accepted"]


@pytest.mark.parametrize("rows", [[], [{"step": 0.0}], [{"step": 1.0, "loss": None}]])
def test_no_metrics_yet(rows):
    assert encode_png(curves(rows), 30)


def test_progress_has_three_panels():
    rows = rows_of(50, energy_data=float, energy_model=float, kl=lambda i: 1 / (i + 1))
    window = Window((-1.0, -1.0), (1.0, 1.0))
    points = torch.zeros(4, 2)
    figure = progress(
        lambda x: x.square().sum(1), window, rows, data=points, samples=points, title="run"
    )
    assert [axes.get_title() for axes in figure.axes] == ["", "energies", "KL(data || model)"]
    assert encode_png(figure, 30)


def test_progress_before_the_first_row_is_the_landscape_alone():
    figure = progress(lambda x: x.square().sum(1), Window((-1.0, -1.0), (1.0, 1.0)), [])
    assert len(figure.axes) == 1
    assert encode_png(figure, 30)
