"""The analytic landscapes: normalised as they say, with their mass where they say."""

from __future__ import annotations

import math

import pytest
import torch
from model_presets import preset
from scipy.special import iv
from torch import Tensor, nn

from ebmtrain.models.ackley import Ackley
from ebmtrain.models.double_well import DoubleWell
from ebmtrain.models.gaussian_mixture import GaussianMixture
from ebmtrain.models.harmonic import Harmonic
from ebmtrain.models.rastrigin import Rastrigin
from ebmtrain.models.rosenbrock import Rosenbrock

NAMES = ["ackley", "double_well", "gaussian_mixture", "harmonic", "rastrigin", "rosenbrock"]


def log_mass(model: nn.Module, growth: float, n: int = 1200) -> float:
    """log of the integral of exp(-E) over the window, grown about its middle; midpoint rule."""
    low, high = (torch.tensor(corner, dtype=torch.float64) for corner in model.window)
    middle, half = (low + high) / 2, (high - low) / 2 * growth
    ticks = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1
    points = torch.cartesian_prod(*[middle[i] + half[i] * ticks for i in range(2)])
    total = torch.cat([-model(part) for part in points.split(200_000)]).logsumexp(0)
    return (total + (2 * half / n).log().sum()).item()


@pytest.mark.parametrize("name", NAMES)
def test_mass_is_finite_and_inside_the_plotted_window(name):
    """Of the mass in a window three times as large, 99.9 % is in the window."""
    model = preset(name).double()
    assert model.event_shape == (2,)
    assert not list(model.parameters())
    assert log_mass(model, 1) - log_mass(model, 3) > math.log(0.999)


@pytest.mark.parametrize(
    "model",
    [
        Harmonic(stiffness=0.7, condition=9.0),
        GaussianMixture(std=0.7),
        GaussianMixture(weights=None, centres=[[1.0, 2.0]]),
        Rosenbrock(a=0.5, b=20.0, scale=0.7),
    ],
    ids=lambda model: type(model).__name__,
)
def test_log_z_is_the_integral(model):
    truth = log_mass(model.double(), 2)
    assert model.log_z(1.0).item() == pytest.approx(truth, abs=1e-5)


def test_double_well_integral():
    """int exp(-b ((x/a)^2 - 1)^2) dx = a pi / 2 e^(-b/2) (I_-1/4(b/2) + I_1/4(b/2))."""
    a, b, k = 1.3, 2.5, 3.0
    model = DoubleWell(barrier=b, half_distance=a, stiffness=k).double()
    well = a * math.pi / 2 * math.exp(-b / 2) * (iv(-0.25, b / 2) + iv(0.25, b / 2))
    assert log_mass(model, 2) == pytest.approx(
        math.log(well * math.sqrt(2 * math.pi / k)), abs=1e-6
    )


def at(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_known_values():
    """Minima and passes of the published formulas."""
    assert DoubleWell(barrier=3.0, half_distance=2.0).double()(
        at([2, 0], [-2, 0], [0, 0])
    ).tolist() == pytest.approx([0, 0, 3])
    assert DoubleWell(tilt=0.5).double()(at([1.5, 0], [-1.5, 0])).tolist() == pytest.approx(
        [0.5, -0.5]
    )
    rosenbrock = Rosenbrock(b=100.0)
    assert rosenbrock.double()(at([1, 1], [-1, 1], [0, 1])).tolist() == pytest.approx([0, 4, 101])
    rastrigin = Rastrigin(scale=1.0).double()
    assert rastrigin(at([0, 0], [1, 0], [0.5, 0])).tolist() == pytest.approx([0, 1, 20.25])
    ackley = Ackley(bound=40.0).double()
    flat = 20 + math.e - math.exp(-1) - 20 * math.exp(-0.2 * 30.5)
    assert ackley(at([0, 0], [30.5, 30.5])).tolist() == pytest.approx([0, flat], abs=1e-12)
    mixture = GaussianMixture(centres=[[0.0], [100.0]], weights=[3, 1], std=2.0).double()
    assert mixture(at([0])).item() == pytest.approx(
        -math.log(0.75) + math.log(2 * math.sqrt(2 * math.pi))
    )


def test_ackley_has_no_nan_at_its_minimum():
    model = Ackley()
    x = torch.zeros(1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert gradient.isfinite().all()
    assert torch.equal(model.energy_and_gradient(x.detach())[1], torch.zeros(1, 2))


@pytest.mark.parametrize(
    "model",
    [
        Harmonic(dim=1),
        Harmonic(dim=5),
        DoubleWell(dim=1),
        DoubleWell(dim=4, tilt=0.3),
        Rastrigin(dim=3),
        Ackley(dim=3, bound=1.0),
        GaussianMixture(centres=[[0.0, 1.0, 2.0]], weights=None),
    ],
    ids=lambda model: type(model).__name__,
)
def test_landscapes_of_other_dimensions(model):
    """The closed form is autograd there too, outside of the walls as well as inside."""
    (dim,) = model.double().event_shape
    x = torch.randn(20, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    assert len(model.window[0]) == len(model.window[1]) == dim
    e = model(x.requires_grad_())
    (gradient,) = torch.autograd.grad(e.sum(), x)
    closed_e, closed_gradient = model.energy_and_gradient(x.detach())
    torch.testing.assert_close(closed_e, e.detach())
    torch.testing.assert_close(closed_gradient, gradient)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"centres": [[0.0], [1.0, 2.0]]}, "equal length"),
        ({"centres": [[0.0, 0.0]], "weights": [1.0, 2.0]}, "weights of 2 modes, centres of 1"),
        ({"weights": [0.0, 0.0, 0.0]}, "positive sum"),
    ],
)
def test_invalid_mixture_parameters_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        GaussianMixture(**arguments)
