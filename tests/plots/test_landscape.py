import math

import numpy as np
import pytest
import torch

from ebmtrain.plots.grid import on_grid
from ebmtrain.plots.image import png
from ebmtrain.plots.landscape import landscape
from ebmtrain.plots.relief import relief
from ebmtrain.plots.window import Window

CENTRES = torch.tensor([[0.0, 0.0], [2, 2], [2, -2], [-2, 2], [-2, -2]])


def five_gaussians(x):
    square = (x[:, None] - CENTRES.to(x)).square().sum(-1)
    return -torch.logsumexp(-square / 0.18, dim=1)


def rosenbrock(x):
    return (1 - x[:, 0]) ** 2 + 100 * (x[:, 1] - x[:, 0] ** 2) ** 2


def rastrigin(x):
    return (x.square() - 10 * torch.cos(2 * math.pi * x) + 10).sum(1)


def ackley(x):
    near = -20 * torch.exp(-0.2 * x.square().mean(1).sqrt())
    return near - torch.exp(torch.cos(2 * math.pi * x).mean(1)) + 20 + math.e


def double_well(x):
    return 4 * (x[:, 0] ** 2 - 1) ** 2 + 2 * x[:, 1] ** 2


def badly_trained(x):
    return 1e5 * torch.sin(1.3 * x[:, 0]) * torch.cos(0.9 * x[:, 1])


def drawable(values, at_data=None):
    shape = relief(values, at_data)
    assert shape is not None
    return shape


def square(reach):
    return Window((-reach, -reach), (reach, reach))


WELLS = {  # energy, window, minima
    "five": (five_gaussians, square(4.0), CENTRES.tolist()),
    "rosenbrock": (rosenbrock, Window((-2.0, -1.0), (2.0, 3.0)), [[1, 1], [0, 0], [-1, 1]]),
    "rastrigin": (rastrigin, square(5.12), [[0, 0], [1, 0], [2, 2], [-3, 0], [-1, 3]]),
    "ackley": (ackley, square(5.0), [[0, 0], [1, 0], [-1, 1]]),
    "double_well": (double_well, square(2.2), [[1, 0], [-1, 0]]),
    "badly_trained": (badly_trained, square(4.0), [[-1.2083, 0], [3.6249, 0]]),
}


@pytest.mark.parametrize(("energy", "window", "minima"), WELLS.values(), ids=WELLS)
def test_wells_are_visible_whatever_the_scale(energy, window, minima):
    grid = on_grid(energy, window, (160, 160))
    shape = drawable(grid.values)
    below = (shape.heights < shape.clip).mean()
    assert below > 0.15  # the picture is no flat sheet with holes
    assert np.diff(shape.levels).min() > 0
    bottoms = energy(torch.tensor(minima, dtype=torch.float32)).numpy() - grid.values.min()
    assert (bottoms < shape.levels[-4]).all()  # three levels of depth at least


@pytest.mark.parametrize("energy", [five_gaussians, rosenbrock, badly_trained])
def test_colours_reach_beyond_the_data(energy):
    points = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    at_data = energy(points).double().numpy()
    shape = drawable(on_grid(energy, square(4.0), (80, 80)).values, at_data)
    assert shape.clip >= min(10.0, shape.heights.max())
    lowest = on_grid(energy, square(4.0), (80, 80)).values.min()
    assert np.mean(at_data - lowest < shape.clip) >= 0.98


def test_small_ranges_are_not_clipped():
    shape = drawable(np.linspace(0, 0.3, 100).reshape(10, 10))
    assert shape.clip == pytest.approx(0.3)
    assert not shape.clipped


def test_one_label_says_where_the_energy_is_clipped():
    figure = landscape(rosenbrock, Window((-2.0, -1.0), (2.0, 3.0)))
    (axes,) = figure.axes
    (bar,) = axes.child_axes
    assert bar.get_ylabel().startswith("energy above the minimum (nats), clipped at 1")


def test_axes_are_equal_and_runaways_counted():
    samples = torch.zeros(10, 2)
    samples[0], samples[1] = 1e6, float("nan")
    figure = landscape(double_well, square(2.0), data=torch.zeros(7, 2), samples=samples)
    (axes,) = figure.axes
    png(figure, 30)
    width, height = axes.get_window_extent().size
    assert axes.get_aspect() == 1.0
    assert width == pytest.approx(height, rel=1e-3)
    assert axes.get_xlim() == pytest.approx((-2, 2), abs=0.02)
    texts = axes.get_legend_handles_labels()[1]
    assert texts == ["data", "model samples (2 of 10 outside the view)"]


FAULTS = {
    "nan": lambda x: torch.where(x[:, 0] > 0, float("nan"), x[:, 1]),
    "inf": lambda x: torch.where(x[:, 0] > 0, float("inf"), x[:, 1]),
    "-inf": lambda x: torch.where(x[:, 0] > 0, -float("inf"), x[:, 1]),
    "never": lambda x: x[:, 0] * float("nan"),
    "constant": lambda x: 0 * x[:, 0],
    "huge": lambda x: 1e37 * x[:, 0],
}


@pytest.mark.parametrize("energy", FAULTS.values(), ids=FAULTS)
def test_faulty_energies_are_drawn(energy):
    data = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    assert png(landscape(energy, square(2.0), data=data, title="100 % $broken"), 30)


def test_infinity_is_high_and_nan_unknown():
    shape = drawable(np.array([[0.0, 1.0], [np.inf, np.nan]]))
    assert shape.heights[1, 0] == shape.clip
    assert np.ma.getmaskarray(shape.heights).tolist() == [[False, False], [False, True]]


def test_the_energy_is_called_in_chunks_without_gradient():
    layer, seen = torch.nn.Linear(2, 1).double(), []

    def energy(x):
        seen.append(len(x))
        out = layer(x).squeeze(1)
        assert not out.requires_grad
        return out

    landscape(energy, square(1.0))
    assert sum(seen) == 160 * 160
    assert max(seen) <= 8192


def test_no_random_number_is_drawn():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    landscape(double_well, square(2.0), data=torch.zeros(9000, 2), samples=torch.zeros(9000, 2))
    assert torch.equal(before, torch.get_rng_state())
