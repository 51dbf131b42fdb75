import pytest
import torch

from ebmtrain.plots.encode import encode_png
from ebmtrain.plots.pairs import pairs
from ebmtrain.plots.projection import projection


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "shown"), [(2, 2), (3, 3), (6, 6), (30, 6)])
def test_data_below_and_samples_above_the_diagonal(columns, shown):
    data, samples = normal(50, columns), normal(400, columns, seed=1)
    figure = pairs(data, samples, [f"c{j}" for j in range(columns)], "a table")
    panels = [figure.axes[i * shown : (i + 1) * shown] for i in range(shown)]
    assert len(figure.axes) == shown**2
    below, above = panels[1][0].collections[0], panels[0][1].collections[0]
    torch.testing.assert_close(torch.tensor(below.get_offsets()), data[:, :2].double())
    torch.testing.assert_close(torch.tensor(above.get_offsets()), samples[:50, :2].flip(1).double())
    assert panels[1][0].get_xlim() == panels[0][1].get_ylim()  # mirror images of each other
    assert [row[0].get_ylabel() for row in panels] == [f"c{j}" for j in range(shown)]
    assert [axes.get_xlabel() for axes in panels[-1]] == [f"c{j}" for j in range(shown)]
    assert ("the first 6 of 30 columns" in figure.get_suptitle()) == (columns == 30)
    assert encode_png(figure, 20)


def test_dollar_signs_in_names_are_literal():
    names = ["price $", "$\\nothing$", "a" * 100]
    assert encode_png(pairs(normal(9, 3), normal(9, 3), names), 20)
    assert encode_png(projection(normal(9, 1), normal(9, 1), names=names[1:2]), 20)
    assert encode_png(projection(normal(9, 3), normal(9, 3), names=names), 20)
