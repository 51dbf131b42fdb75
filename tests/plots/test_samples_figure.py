import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import LogNorm

from ebmtrain.plots.samples import _boltzmann_density, _histogram, samples
from ebmtrain.plots.window import Window

WINDOW = Window((-4.0, -3.0), (4.0, 3.0))


class Normal:
    entropy = 1 + math.log(2 * math.pi)
    modes = None

    def sample(self, count, generator):
        return torch.randn(count, 2, generator=generator, dtype=torch.float64)

    def log_prob(self, x):
        return -x.square().sum(1) / 2 - math.log(2 * math.pi)


def draw(count, seed=0):
    return Normal().sample(count, torch.Generator().manual_seed(seed))


def images(figure) -> list[Any]:
    return [axes.images[0] for axes in figure.axes if axes.images]


def test_same_bins_and_colour_scale():
    figure = samples(draw(4000), draw(500, 1), WINDOW, truth=Normal(), title="normal")
    data, model, truth = images(figure)
    assert data.get_array().shape == model.get_array().shape
    assert data.get_clim() == model.get_clim() == truth.get_clim()
    assert {tuple(i.get_extent()) for i in (data, model, truth)} == {(-4.0, 4.0, -3.0, 3.0)}
    assert all(image.axes.get_aspect() == 1.0 for image in (data, model, truth))


def test_skewed_data_have_a_logarithmic_colour_scale():
    skewed = (2 * draw(4000)).exp()
    window = Window((0.0, 0.0), (100.0, 100.0))
    figure = samples(skewed, (2 * draw(500, 1)).exp(), window)
    data, model = images(figure)
    assert isinstance(data.norm, LogNorm)
    assert data.get_clim() == model.get_clim()
    assert data.get_array().min() == data.get_clim()[0] > 0  # an empty bin has the lowest colour
    assert figure.axes[-1].get_ylabel() == "probability per unit area (logarithmic)"
    (normal, *_) = images(samples(draw(4000), draw(500, 1), WINDOW))
    assert not isinstance(normal.norm, LogNorm)


def test_histogram_estimates_the_density():
    density = _histogram(draw(200_000), WINDOW, (40, 30))
    centre = density[14:16, 19:21].mean()
    # 8,000 points or so fall in the four central bins: 1 % of noise, and 1 % from their width
    assert centre == pytest.approx(1 / (2 * math.pi), rel=0.05)


def test_points_outside_lower_the_density_of_those_inside():
    inside = draw(1000).clamp(-2, 2)
    both = torch.cat([inside, torch.full((1000, 2), 1e6)])
    cell = 8 * 6 / (16 * 12)
    assert _histogram(inside, WINDOW, (16, 12)).sum() * cell == pytest.approx(1)
    assert _histogram(both, WINDOW, (16, 12)).sum() * cell == pytest.approx(0.5)


def test_rows_are_the_second_coordinate():
    density = _histogram(torch.tensor([[3.9, -2.9]]), WINDOW, (16, 12))
    assert density[0, 15] > 0


def test_boltzmann_density_is_normalised_and_zero_at_nan():
    def energy(x):
        return torch.where(x[:, 0] > 0, 1e6 + x.square().sum(1), float("nan"))

    density = _boltzmann_density(energy, WINDOW, (64, 48))
    assert density.sum() * 48 / (64 * 48) == pytest.approx(1)
    assert np.all(density[:, :32] == 0)


def test_without_data_the_density_of_the_energy_is_shown():
    figure = samples(None, draw(500).clamp(-2, 2), WINDOW, energy=lambda x: x.square().sum(1) / 2)
    titles = [image.axes.get_title() for image in images(figure)]
    assert titles == ["model samples", "density of the energy"]


def test_samples_outside_the_view_are_counted():
    figure = samples(draw(100), torch.full((100, 2), float("nan")), WINDOW)
    assert images(figure)[1].axes.get_title() == "model samples (100 of 100 outside the view)"
