import math

import numpy as np
import pytest
import torch

from ebmtrain.plots.contours import ROUND_NUMBERS, contour_data, round_ticks
from ebmtrain.plots.encode import encode_png
from ebmtrain.plots.grid import evaluate_on_grid
from ebmtrain.plots.landscape import landscape
from ebmtrain.plots.samples import samples
from ebmtrain.plots.window import Window, fit_window

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
    shape = contour_data(values, at_data)
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
def test_wells_are_visible_at_any_scale(energy, window, minima):
    grid = evaluate_on_grid(energy, window, (160, 160))
    shape = drawable(grid.values)
    below = (shape.heights < shape.clip).mean()
    assert below > 0.15  # the picture is no flat sheet with holes
    assert np.diff(shape.levels).min() > 0
    bottoms = energy(torch.tensor(minima, dtype=torch.float32)).numpy() - grid.values.min()
    assert (bottoms < shape.levels[-4]).all()  # three levels of depth at least


@pytest.mark.parametrize("energy", [five_gaussians, rosenbrock, badly_trained])
def test_colours_extend_above_the_energies_of_the_data(energy):
    points = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    at_data = energy(points).double().numpy()
    shape = drawable(evaluate_on_grid(energy, square(4.0), (80, 80)).values, at_data)
    assert shape.clip >= min(10.0, shape.heights.max())
    lowest = evaluate_on_grid(energy, square(4.0), (80, 80)).values.min()
    assert np.mean(at_data - lowest < shape.clip) >= 0.98


def test_small_ranges_are_not_clipped():
    shape = drawable(np.linspace(0, 0.3, 100).reshape(10, 10))
    assert shape.clip == pytest.approx(0.3)
    assert not shape.clipped


@pytest.mark.parametrize(
    ("energy", "beyond"), [(rosenbrock, True), (lambda x: 0.3 * torch.sin(x[:, 0]), False)]
)
def test_colour_bar_has_round_labels_and_an_arrow_if_clipped(energy, beyond):
    figure = landscape(energy, Window((-2.0, -1.0), (2.0, 3.0)))
    encode_png(figure, 30)
    (axes,) = figure.axes
    (bar,) = axes.child_axes
    assert bar.get_ylabel() == "energy above the minimum (nats)"
    labels = [text.get_text() for text in bar.get_yticklabels()]
    assert labels[0] == "0"
    assert len(labels) >= 5
    for label in labels[1:-1]:
        assert float(label) in [m * 10.0**p for m in (1, 2, 5) for p in range(-5, 5)]
    if beyond:
        assert float(labels[-1]) in [m * 10**p for m in ROUND_NUMBERS for p in range(5)]
    fills = [patch.get_facecolor() for patch in bar.patches]
    assert len(fills) == (1 if beyond else 0)  # the arrow's head
    assert axes.collections[0].extend == ("max" if beyond else "neither")


@pytest.mark.parametrize("clip", [1e-6, 0.3, 9.99, 10, 12, 137.0, 4e5])
def test_round_ticks_increase_with_a_minimum_gap(clip):
    ticks = np.array(round_ticks(clip, 0.09))
    places = np.sqrt(ticks / ticks[-1])
    assert np.diff(places).min() > 0.085
    assert ticks[0] == 0
    assert ticks[-1] == pytest.approx(clip, rel=0.01)
    assert len(ticks) >= 5


def test_axes_are_equal_and_outliers_are_counted():
    points = torch.zeros(10, 2)
    points[0], points[1] = 1e6, float("nan")
    figure = landscape(double_well, square(2.0), data=torch.zeros(7, 2), samples=points)
    (axes,) = figure.axes
    encode_png(figure, 30)
    width, height = axes.get_window_extent().size
    assert axes.get_aspect() == 1.0
    assert width == pytest.approx(height, rel=1e-3)
    assert axes.get_xlim() == pytest.approx((-2, 2), abs=0.02)
    texts = axes.get_legend_handles_labels()[1]
    assert texts == ["data", "model samples (2 of 10 outside the view)"]


def test_axes_of_very_different_scale_fill_the_figure():
    """Columns of 5e8 +- 1e6 and -3 +- 1e-5, as a file may contain."""
    data = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).double()
    data = data * torch.tensor([1e6, 1e-5]) + torch.tensor([5e8, -3.0], dtype=torch.float64)
    shift, scale = data.mean(0), data.std(0)
    window = fit_window(data)
    figure = landscape(
        lambda x: ((x - shift) / scale).square().sum(1) / 2, window, data=data, samples=data
    )
    encode_png(figure, 40)
    axes = figure.axes[0]
    extent = axes.get_window_extent()
    assert axes.get_aspect() == "auto"
    assert extent.height == pytest.approx(extent.width, rel=0.2)
    on_paper = axes.transData.transform(data.numpy())
    assert np.ptp(on_paper, axis=0).min() > 0.5 * extent.width
    for image in (a for a in samples(data, data, window).axes if a.images):
        assert image.get_aspect() == "auto"


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
    assert encode_png(landscape(energy, square(2.0), data=data, title="100 % $broken"), 30)


def test_infinity_is_clipped_and_nan_masked():
    shape = drawable(np.array([[0.0, 1.0], [np.inf, np.nan]]))
    assert shape.clip < shape.heights[1, 0] < np.inf
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
