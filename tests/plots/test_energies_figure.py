import pytest
import torch

from ebmtrain.plots.encode import encode_png
from ebmtrain.plots.energies import draw_energy_histograms, energy_histograms
from ebmtrain.plots.style import new_figure


def normal(count, mean=0.0, seed=0):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)) + mean


def labels(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_three_groups_on_one_scale():
    groups = {"data": normal(500), "samples": normal(300, seed=1), "other": normal(100, 6.0)}
    figure = energy_histograms(groups, "energies")
    low, high = figure.axes[0].get_xlim()
    assert low < -2 < 8 < high
    assert [label.split(" (")[0] for label in labels(figure)] == list(groups)
    assert encode_png(figure, 30)


def test_outliers_do_not_hide_the_data():
    groups = {"data": normal(500), "other": torch.tensor([1e9, 1e30, float("nan"), 0.0])}
    figure = energy_histograms(groups)
    assert figure.axes[0].get_xlim()[1] < 100
    assert labels(figure)[1] == "other (3 of 4 outside the view)"
    assert encode_png(figure, 30)


@pytest.mark.parametrize("value", [0.0, 1e6])
def test_equal_energies(value):
    assert encode_png(
        energy_histograms({"data": torch.full((9,), value), "other": torch.ones(1)}), 30
    )


def test_the_legend_is_inside_the_figure_and_outside_the_histogram():
    """A panel as narrow as that next to sequences, without a free corner."""
    groups = {"data": normal(500), "model samples": 99 * normal(2000, seed=1)}
    figure = new_figure(3.7, 4.4)
    axes = figure.add_subplot()
    draw_energy_histograms(axes, groups)
    assert encode_png(figure, 30)  # lays it out
    drawn = axes.get_legend()
    assert drawn is not None
    legend, panel = drawn.get_window_extent(), axes.get_window_extent()
    assert "outside the view" in labels(figure)[1]
    assert legend.y0 >= panel.y1 - 1
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.width
