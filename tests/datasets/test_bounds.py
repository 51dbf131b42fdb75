"""Bounds of columns: the map to R^d, its slope, the option and its checks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ebmtrain.datasets.bounds import parse_support
from ebmtrain.datasets.bundled import bundled
from ebmtrain.datasets.file import from_file
from ebmtrain.datasets.spec import DataSpec, fingerprint
from ebmtrain.datasets.support import Bounded
from ebmtrain.errors import CheckpointError, ConfigError, DataError
from ebmtrain.models.wrappers import to_data_units
from ebmtrain.types import Bounds

R = np.random.default_rng(0)
N = 2000
INF = math.inf
ENDS = [(0.0, INF), (-2.0, INF), (-INF, 5.0), (0.0, 1.0), (1e6, 1e6 + 4), (-INF, INF)]
LOW, HIGH = (torch.tensor(ends, dtype=torch.float64) for ends in zip(*ENDS, strict=True))
BOUNDS = Bounds(LOW, HIGH)
NAMES = ["price", "share", "x"]
X = np.column_stack([R.lognormal(size=N), R.beta(2, 3, N), R.normal(50, 1, N)])


def save(tmp_path, x, names=NAMES):
    file = tmp_path / "x.csv"
    np.savetxt(file, x, "%.17g", delimiter=",", header=",".join(names), comments="")
    return str(file)


def test_the_map_is_inverted_and_increasing():
    y = torch.linspace(-8, 8, 101).double()[:, None].expand(-1, len(ENDS))
    x = BOUNDS.from_real(y)
    assert BOUNDS.contains(x).all()
    assert (x.diff(dim=0) > 0).all()
    torch.testing.assert_close(BOUNDS.to_real(x), y, atol=1e-5, rtol=0)


def test_the_slope_is_the_derivative():
    """By automatic differentiation, and by the analytic Jacobians of log and logit."""
    x = BOUNDS.from_real(
        torch.randn(50, len(ENDS), generator=torch.Generator().manual_seed(0)).double()
    )
    x.requires_grad_()
    (slope,) = torch.autograd.grad(BOUNDS.to_real(x).sum(), x)
    torch.testing.assert_close(BOUNDS.log_slope(x), slope.log().sum(1))
    a = torch.tensor([[3.0]]).double()
    positive = Bounds(torch.zeros(1).double(), torch.full((1,), INF).double())
    assert float(positive.log_slope(a)) == pytest.approx(-math.log(3))
    unit = Bounds(torch.zeros(1).double(), torch.ones(1).double())
    assert float(unit.log_slope(a / 10)) == pytest.approx(-math.log(0.3 * 0.7))


def test_any_real_number_is_mapped_inside_and_any_number_to_a_finite_one():
    far = torch.tensor([-INF, -1e300, -1e3, -40, 40, 1e3, 1e300, INF], dtype=torch.float64)
    y = far[:, None].expand(-1, len(ENDS))
    x = BOUNDS.from_real(y)
    assert BOUNDS.contains(x)[1:-1].all()
    bounded = BOUNDS.bounded
    assert x[:, bounded].isfinite().all()
    assert BOUNDS.to_real(y)[:, bounded].isfinite().all()
    assert BOUNDS.log_slope(y[1:-1]).isfinite().all()
    outside = torch.tensor([[0.0, 0.0, 0.0, 0.5, 1e6 + 1, 0.0], [1.0, 0, 0, 1.0, 1e6 + 1, 0]])
    assert BOUNDS.contains(outside.double()).tolist() == [False, False]


def test_padding_is_kept_and_has_no_slope():
    bounds = Bounds(torch.zeros(3, 1).double(), torch.full((3, 1), INF).double())
    x = torch.tensor([2.0, 3.0, torch.nan]).double().view(1, 3, 1)
    assert bounds.to_real(x).isnan().flatten().tolist() == [False, False, True]
    assert bounds.from_real(x).isnan().flatten().tolist() == [False, False, True]
    assert float(bounds.log_slope(x)) == pytest.approx(-math.log(6))
    assert bounds.contains(x).all()


def test_the_option_by_name_by_number_and_for_all():
    def ends(option, shape=(3,), names=None):
        bounds = parse_support(option, shape, names)
        return None if bounds is None else [tuple(e.flatten().tolist()) for e in bounds]

    assert ends(None) is None
    assert ends("positive") == [(0, 0, 0), (INF,) * 3]
    assert ends([-1, None], (2,)) == [(-1, -1), (INF, INF)]
    by_name = ends({"b": "positive", "c": [0, 1]}, names=("a", "b", "c"))
    assert by_name == [(-INF, 0, 0), (INF, INF, 1)]
    assert ends({2: [None, 4]}, (2,)) == [(-INF, -INF), (INF, 4)]
    assert ends({"2": "positive"}, (2, 2)) == [(-INF, 0) * 2, (INF,) * 4]
    assert ends([0, 255], (1, 2, 2)) == [(0,) * 4, (255,) * 4]


WRONG = {
    "an unknown column": ({"prize": "positive"}, "no column prize; did you mean price"),
    "a circle": ({"x": "periodic"}, r"no periodic coordinates; cut the circle"),
    "ends exchanged": ({"x": [1, 0]}, "must be less"),
    "three ends": ([0, 1, 2], r"must be positive or \[low,high\]"),
    "a value outside": ({"x": [0, 50]}, "column x is 5.* in row .* not inside"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_with_the_reason(tmp_path, case):
    option, message = WRONG[case]
    with pytest.raises((ConfigError, DataError), match=message):
        from_file(path=save(tmp_path, X), seed=0, support=option)


def test_values_at_an_end_are_refused_and_counts_at_it_are_dequantized(tmp_path):
    counts = R.poisson(2, (N, 1)).astype(float)
    file = save(tmp_path, counts, ["n"])
    with pytest.raises(DataError, match=r"column n is 0 in row \d+ .*dataset.dequantize=true"):
        from_file(path=file, seed=0, support="positive")
    points = from_file(path=file, seed=0, support="positive", dequantize=True)
    assert points.batch(0, 100, 0).x.isfinite().all()
    top = float(counts.max())
    from_file(path=file, seed=0, support=[0, top + 1], dequantize=True)
    with pytest.raises(DataError, match="not inside"):
        from_file(path=file, seed=0, support=[0, top + 0.5], dequantize=True)


def test_columns_that_end_are_named_with_the_option(tmp_path):
    (note,) = from_file(path=save(tmp_path, X), seed=0).notes
    assert "'dataset.support={price:positive,share:[0,1]}'" in note
    assert not from_file(
        path=save(tmp_path, X), seed=0, support={"price": "positive", "share": [0, 1]}
    ).notes
    angle = np.column_stack([R.uniform(-180, 180, N), X[:, 2]])
    (note,) = from_file(path=save(tmp_path, angle, ["theta", "x"]), seed=0).notes
    assert "theta (an angle)" in note
    assert "{theta:[-180,180]}" in note
    np.save(tmp_path / "x.npy", X)
    assert "{1:positive,2:[0,1]}" in from_file(path=str(tmp_path / "x.npy"), seed=0).notes[0]


@pytest.mark.parametrize("standardize", [True, False, "robust", "whiten"])
def test_units_are_those_of_the_mapped_points_and_are_kept_with_the_model(tmp_path, standardize):
    points = from_file(
        path=save(tmp_path, X), seed=0, standardize=standardize,
        support={"price": "positive", "share": [0, 1]},
    )  # fmt: skip
    units = points.standardization
    y = torch.stack([points.train[:, 0].log(), points.train[:, 1].logit(), points.train[:, 2]], 1)
    if standardize is True:
        torch.testing.assert_close(units.shift, y.mean(0))
    u = units.to_standard(points.train)
    torch.testing.assert_close(units.to_data(u), points.train)
    spec = DataSpec.of(points)
    again = DataSpec.from_state(spec.state_dict())
    assert torch.equal(again.standardization.to_standard(points.train), u)
    assert torch.equal(again.region.low, u.amin(0))
    again.check(points)
    plain = from_file(path=save(tmp_path, X), seed=0)
    assert fingerprint(plain) != spec.fingerprint
    assert "bounds_low" not in DataSpec.of(plain).state_dict()


def test_broken_bounds_of_a_checkpoint_are_refused(tmp_path):
    points = from_file(path=save(tmp_path, X), seed=0, support={"price": "positive"})
    state = DataSpec.of(points).state_dict()
    for key, value in (
        ("bounds_low", torch.full((3,), torch.nan).double()),
        ("bounds_high", torch.zeros(2).double()),
        ("bounds_high", state["bounds_low"]),
        ("bounds_low", "0"),
    ):
        with pytest.raises(CheckpointError, match="its bounds"):
            DataSpec.from_state(state | {key: value})
    with pytest.raises(CheckpointError):
        DataSpec.from_state({k: v for k, v in state.items() if k != "bounds_low"})


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_energy_in_the_units_of_the_data_integrates_to_one_inside_only(temperature):
    """A normal density of y = log x, and of the logit: by the trapezoidal rule in x."""

    class Normal(torch.nn.Module):
        def forward(self, u):
            return temperature * u.square().sum(1) / 2

    cases = [("positive", 1e-5, 400.0), ([0, 1], 1e-6, 1 - 1e-6), ([None, 3], -300.0, 3 - 1e-5)]
    for option, low, high in cases:
        bounds = parse_support(option, (1,), None)
        assert bounds is not None
        train = bounds.from_real(0.3 + 0.7 * torch.randn(500, 1).double())
        units = Bounded(limits=bounds).standardization(train, True)
        energy = to_data_units(Normal(), units, temperature)
        x = torch.linspace(low, high, 2_000_001).double()[:, None]
        log_z = math.log(2 * math.pi) / 2 + units.log_volume
        p = (-energy(x) / temperature - log_z).exp()
        assert float(torch.trapezoid(p, x[:, 0])) == pytest.approx(1, abs=1e-4)
        outside = torch.tensor([[low - 1.0]] if option != [None, 3] else [[3.0]]).double()
        assert energy(outside).tolist() == [INF]


def test_bundled_tables_take_bounds():
    points = bundled(name="iris", seed=0, support={"petal width (cm)": "positive"})
    assert points.standardization.bounds is not None
    with pytest.raises(DataError, match="iris column"):
        bundled(name="iris", seed=0, support=[0, 3])
