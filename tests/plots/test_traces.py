import math

import pytest
import torch

from ebmtrain.plots.encode import encode_png
from ebmtrain.plots.traces import N_SEQUENCES, _evenly_by_energy, traces


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def energy(x):
    return x.square().sum((1, 2))


def curves_of(axes):
    """The lines of a panel without the zero line, (channels, length)."""
    return torch.tensor([list(line.get_ydata()) for line in axes.lines[1:]])


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_data_and_samples_with_their_energies(channels):
    data, samples = normal(50, 12, channels), normal(20, 12, channels, seed=1)
    figure = traces(data, samples, "sequences", energy=energy)
    assert len(figure.axes) == 2 * N_SEQUENCES + 1
    for row, x in enumerate((data, samples)):
        panels = figure.axes[row * N_SEQUENCES : (row + 1) * N_SEQUENCES]
        order = energy(x).argsort()
        for axes, i in ((panels[0], order[0]), (panels[-1], order[-1])):  # lowest and highest
            torch.testing.assert_close(curves_of(axes).float(), x[i].T[:4])
            assert axes.get_title() == f"E = {float(energy(x)[i]):.4g}"
        assert panels[0].get_ylabel() == ("model samples" if row else "data")
        assert {axes.get_ylim() for axes in panels} == {figure.axes[0].get_ylim()}
    assert ("the first 4 of 6 channels" in figure.get_suptitle()) == (channels == 6)
    assert encode_png(figure, 20)


def test_without_data_and_with_nonfinite_samples():
    samples = normal(9, 5, 1)
    samples[3, 2] = math.nan
    samples[4] = 1e30
    figure = traces(None, samples, energy=energy)
    assert len(figure.axes) == N_SEQUENCES + 1
    assert encode_png(figure, 20)
    with pytest.raises(ValueError, match="none of 4"):
        traces(None, torch.full((4, 5, 1), math.nan), energy=energy)


def test_evenly_by_energy_from_lowest_to_highest():
    assert _evenly_by_energy(torch.tensor([3.0, 1.0, 2.0, 0.0, 4.0]), 3) == [3, 2, 4]
    assert _evenly_by_energy(torch.tensor([3.0, 1.0]), 6) == [1, 0]


def test_a_shorter_sequence_has_a_shorter_curve():
    """It counts as a finite sample, and the view is that of the present steps."""
    samples = normal(9, 12, 2)
    samples[::2, 7:] = math.nan
    figure = traces(samples, samples, energy=lambda x: energy(x.nan_to_num(0.0)))
    lines = [curves_of(axes) for axes in figure.axes[: 2 * N_SEQUENCES]]
    ends = {int((~line.isnan()).all(0).sum()) for line in lines}
    assert ends == {7, 12}
    assert len({axes.get_xlim() for axes in figure.axes[: 2 * N_SEQUENCES]}) == 1
    assert all(math.isfinite(end) for end in figure.axes[0].get_ylim())
    assert encode_png(figure, 20)
