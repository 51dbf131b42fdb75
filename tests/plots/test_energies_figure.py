import pytest
import torch

from ebmtrain.plots.energies import energies
from ebmtrain.plots.image import png


def normal(count, mean=0.0, seed=0):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)) + mean


def labels(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_three_kinds_of_points_on_one_scale():
    groups = {"data": normal(500), "samples": normal(300, seed=1), "other": normal(100, 6.0)}
    figure = energies(groups, "energies")
    low, high = figure.axes[0].get_xlim()
    assert low < -2 < 8 < high
    assert [label.split(" (")[0] for label in labels(figure)] == list(groups)
    assert png(figure, 30)


def test_what_is_far_beyond_does_not_hide_the_data():
    groups = {"data": normal(500), "other": torch.tensor([1e9, 1e30, float("nan"), 0.0])}
    figure = energies(groups)
    assert figure.axes[0].get_xlim()[1] < 100
    assert labels(figure)[1] == "other (3 of 4 beyond the view)"
    assert png(figure, 30)


@pytest.mark.parametrize("value", [0.0, 1e6])
def test_energies_that_are_all_the_same(value):
    assert png(energies({"data": torch.full((9,), value), "other": torch.ones(1)}), 30)
