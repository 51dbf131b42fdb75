"""Quadrature against closed forms, in the data's own units."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ebmtrain
from ebmtrain.cli.main import main
from ebmtrain.config.build import build
from ebmtrain.datasets.checkerboard import Checkerboard
from ebmtrain.datasets.gaussian_mixture import GaussianMixture
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.evaluation.estimators.grid_quadrature import _quadrature_grid, integrate_log_z
from ebmtrain.evaluation.exact import Quadrature, _nll_metrics, mean_nll
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput
from ebmtrain.runs.evaluate import evaluation_input
from ebmtrain.runs.launch import run_experiment
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Region, Standardization


class Bowl(nn.Module):
    """E(x) = sum_i (x_i - c_i)^2 / (2 s_i^2) + offset."""

    def __init__(self, centre: list[float], stds: list[float], offset: float = 0.0):
        super().__init__()
        self.register_buffer("centre", torch.tensor(centre, dtype=torch.float64))
        self.register_buffer("stds", torch.tensor(stds, dtype=torch.float64))
        self.offset = offset

    def forward(self, x):
        return ((x - self.centre) / self.stds).square().flatten(1).sum(1) / 2 + self.offset

    def true_log_z(self, temperature: float = 1.0) -> float:
        d = len(self.stds)
        volume = float(self.stds.log().sum()) + d / 2 * math.log(2 * math.pi * temperature)
        return volume - self.offset / temperature


def make_input(energy, temperature, region, standardization, dataset) -> EvaluationInput:
    def unused(*_):
        raise AssertionError("quadrature draws nothing")

    return EvaluationInput(
        energy=energy, temperature=temperature, region=region, standardization=standardization,
        dataset=dataset, draw=unused, generator=unused, sampler=Mala(step_size=0.1), method={},
        trace=unused,
    )  # fmt: skip


def box(d: int, half: float = 5.0) -> Region:
    return Region(torch.full((d,), -half).double(), torch.full((d,), half).double())


def units(shift: list[float], scale: list[float]) -> Standardization:
    return Standardization(*(torch.tensor(v, dtype=torch.float64) for v in (shift, scale)))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("offset", [0.0, 100.0, -2000.0])
@pytest.mark.parametrize("stds", [[0.7], [1.0, 1.0], [0.3, 1.2], [0.5, 0.8, 1.1]])
def test_log_z_of_a_gaussian(stds, offset, temperature):
    d = len(stds)
    bowl = Bowl([0.2, -0.1, 0.3][:d], stds, offset)
    found = Quadrature(every=1)(
        make_input(bowl, temperature, box(d), units([0.0] * d, [1.0] * d), None)
    )
    assert found.metrics["log_z"] == pytest.approx(bowl.true_log_z(temperature), abs=1e-3)
    assert found.warnings == []


def test_quadrature_is_far_more_accurate_than_its_tolerance():
    bowl = Bowl([0.1, 0.2], [0.5, 0.9])
    assert integrate_log_z(bowl, box(2, 8.0), 128, 1e-3).value == pytest.approx(
        bowl.true_log_z(), abs=1e-12
    )


def test_a_small_box_grows():
    bowl = Bowl([0.0, 0.0], [1.0, 1.0])
    result = integrate_log_z(bowl, box(2, 0.5), 64, 1e-3)
    assert result.value == pytest.approx(bowl.true_log_z(), abs=2e-3)
    assert result.grid.region.high.min() > 3


def test_a_coarse_grid_is_refined():
    bowl = Bowl([0.3, 0.1], [0.05, 0.05])
    result = integrate_log_z(bowl, box(2), 32, 1e-3)
    assert result.grid.n_per_axis > 32
    assert result.value == pytest.approx(bowl.true_log_z(), abs=1e-3)


def test_an_unnormalisable_density_gives_a_warning():
    """exp(-0) has no finite integral: no box contains its mass."""
    found = Quadrature(every=1, resolution=16)(
        make_input(Bowl([0.0], [1e9]), 1.0, box(1), units([0.0], [1.0]), None)
    )
    assert len(found.warnings) == 1
    assert "of the mass is outside of the box; set model.base_std" in found.warnings[0]


def test_the_margin_is_added_on_each_side():
    """Data from 0 to 10 and a quarter of that on each side: the first grid is on [-2.5, 12.5]."""
    first = []

    class Seen(Bowl):
        def forward(self, x):
            first.append(x)
            return super().forward(x)

    region = Region(torch.tensor([0.0]).double(), torch.tensor([10.0]).double())
    model = Seen([5.0], [1.0])
    Quadrature(every=1, resolution=1, margin=0.25)(
        make_input(model, 1.0, region, units([0.0], [1.0]), None)
    )
    half = 15 / 64 / 2
    assert first[0].min().item() == pytest.approx(-2.5 + half)
    assert first[0].max().item() == pytest.approx(12.5 - half)


def test_an_unresolved_density_gives_a_warning():
    needle = Bowl([0.3, 0.1], [1e-4, 1e-4])
    found = Quadrature(every=1)(make_input(needle, 1.0, box(2), units([0.0] * 2, [1.0] * 2), None))
    assert any("raise evaluation.resolution" in warning for warning in found.warnings)


class Sum(nn.Module):
    """E = -log sum_k exp(-E_k): log Z is log sum_k Z_k."""

    def __init__(self, *parts: Bowl):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        return -torch.stack([-part(x) for part in self.parts]).logsumexp(0)


def with_outlier(width: float) -> Points:
    """999 points within `width` along the second axis, and one at 40."""
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)).double()
    x *= torch.tensor([1.0, width])
    x[137, 1] = 40.0
    return Points(
        x[:800], x[800:], standardization=fit_standardization(x, False), names=("a", "b"),
        row_numbers=torch.arange(1000),
    )  # fmt: skip


@pytest.mark.parametrize("narrow", [0.02, 1e-4])
def test_an_outlier_does_not_hide_the_mass_from_the_grid(narrow):
    """Half of the mass is within a part of the box that is narrower than a cell: a grid that sees
    nothing of it agrees with its own halves."""
    data = with_outlier(narrow)
    parts = Bowl([0.0, 0.0], [1.0, narrow]), Bowl([0.0, 20.0], [1.0, 8.0], -math.log(narrow / 8))
    true = math.log(sum(math.exp(part.true_log_z()) for part in parts))
    region = Region(data.train.amin(0), data.train.amax(0))
    found, warnings = Quadrature(every=1)(
        make_input(Sum(*parts), 1.0, region, data.standardization, data)
    )
    if narrow == 1e-4:  # too thin for the tree of boxes too
        assert found == {}
        assert "40 (row 138, b; half of the column is within" in warnings[-1]
        return
    assert warnings == []
    assert found["log_z"] == pytest.approx(true, abs=1e-3)


@pytest.mark.parametrize("d", [1, 2])
def test_heavy_tails_are_integrated(d):
    """Student's t of three degrees of freedom, for which a grid over 25 times the range of the data
    misses mass or is too coarse."""
    nu, region = 3.0, box(d, 0.5)

    class Heavy(nn.Module):
        def forward(self, x):
            return (nu + d) / 2 * (1 + x.square().sum(1) / nu).log()

    true = math.lgamma(nu / 2) - math.lgamma((nu + d) / 2) + d / 2 * math.log(nu * math.pi)
    found, warnings = Quadrature(every=1)(
        make_input(Heavy(), 1.0, region, units([0.0] * d, [1.0] * d), None)
    )
    assert warnings == []
    assert found["log_z"] == pytest.approx(true, abs=2e-3)


def test_without_log_z_no_number_that_depends_on_it_is_left_and_the_outlier_is_named():
    class Rough(nn.Module):
        def forward(self, x):
            return 30 * (1e4 * x).sin().sum(1) + x.square().sum(1) / 2

    data = with_outlier(1.0)
    region = Region(data.train.amin(0), data.train.amax(0))
    found, warnings = Quadrature(every=1, resolution=32)(
        make_input(Rough(), 1.0, region, data.standardization, data)
    )
    assert found == {}
    assert any("raise evaluation.resolution" in warning for warning in warnings)
    assert "40 (row 138, b; half of the column is within" in warnings[-1]


def test_nan_energies_give_a_warning():
    class Broken(nn.Module):
        def forward(self, x):
            return torch.full((len(x),), math.nan)

    found = Quadrature(every=1, resolution=16)(
        make_input(Broken(), 1.0, box(1), units([0.0], [1.0]), None)
    )
    assert found.warnings
    assert found.metrics == {}


def test_cells_tile_the_box():
    grid = _quadrature_grid(
        lambda x: x[:, 0] * 0, Region(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 5.0])), 4
    )
    assert grid.log_z == pytest.approx(math.log(8.0))
    assert grid.points[:2].tolist() == [[0.25, 1.5], [0.25, 2.5]]  # the last coordinate first


# Data in units of their own

SCALES = [
    ([0.0, 0.0], [1.0, 1.0]),
    ([1e4, -1e4], [1e3, 1e3]),
    ([1e4, 5.0], [1e-3, 1e-3]),
    ([0.0, 1e4], [1e3, 1e-3]),
]


class ShiftedGaussian:
    """N(shift, diag(scale)^2), the true density of the data below."""

    def __init__(self, shift, scale):
        self.shift, self.scale = (torch.tensor(v, dtype=torch.float64) for v in (shift, scale))
        self.modes = None

    def sample(self, count, generator):
        z = torch.randn(count, 2, dtype=torch.float64, generator=generator)
        return self.shift + self.scale * z

    def log_prob(self, x):
        z = (x - self.shift) / self.scale
        return -z.square().sum(1) / 2 - math.log(2 * math.pi) - self.scale.log().sum()

    @property
    def entropy(self) -> float:
        return 1 + math.log(2 * math.pi) + float(self.scale.log().sum())


@pytest.mark.parametrize(("shift", "scale"), SCALES)
def test_metrics_are_in_the_units_of_the_data(shift, scale):
    """Model N(m, s^2) in units in which the data are about N(0, 1); all in closed form."""
    truth = ShiftedGaussian(shift, scale)
    generator = torch.Generator().manual_seed(1)
    train, holdout = truth.sample(500, generator), truth.sample(4000, generator)
    standard = fit_standardization(train, True)
    points = Points(train, holdout, standardization=standard, truth=truth)
    m, s = torch.tensor([0.3, -0.2]).double(), torch.tensor([0.8, 1.5]).double()
    model = Bowl(m.tolist(), s.tolist(), offset=7.0)
    u = standard.to_standard(train)
    region = Region(u.amin(0), u.amax(0))
    found, warnings = Quadrature(every=1)(make_input(model, 1.0, region, standard, points))
    assert warnings == []
    # The model in the data's units is N(m', s'^2).
    mean, std = standard.to_data(m), s * standard.scale
    log_q = -((holdout - mean) / std).square().sum(1) / 2 - math.log(2 * math.pi) - std.log().sum()
    ratio = truth.scale / std
    kl = float((ratio**2 / 2 + ((truth.shift - mean) / std) ** 2 / 2 - 0.5 - ratio.log()).sum())
    assert found["log_z"] == pytest.approx(
        float(std.log().sum()) + math.log(2 * math.pi) - 7.0, abs=1e-3
    )
    assert found["nll"] == pytest.approx(-float(log_q.mean()), abs=1e-3)
    assert found["nll_se"] == pytest.approx(float(log_q.std()) / math.sqrt(4000), rel=1e-3)
    assert found["entropy"] == pytest.approx(truth.entropy)
    assert found["regret"] == pytest.approx(-float(log_q.mean()) - truth.entropy, abs=1e-3)
    assert found["kl"] == pytest.approx(kl, abs=1e-3)
    error = truth.log_prob(holdout) - log_q
    assert found["log_density_mse"] == pytest.approx(float(error.square().mean()), rel=1e-2)


@pytest.mark.parametrize("dim", [1, 3])
def test_kl_in_one_and_three_dimensions(dim):
    truth = GaussianMixture(centres=[[0.0] * dim], std=0.5)
    x = truth.sample(1000, torch.Generator().manual_seed(1))
    points = Points(x, x, standardization=fit_standardization(x, False), truth=truth)
    found, _ = Quadrature(every=1)(
        make_input(
            Bowl([0.2] * dim, [0.6] * dim), 1.0, box(dim, 2.0), points.standardization, points
        )
    )
    ratio = 0.5 / 0.6
    kl = dim * (ratio**2 / 2 + (0.2 / 0.6) ** 2 / 2 - 0.5 - math.log(ratio))
    assert found["kl"] == pytest.approx(kl, abs=2e-3)


def test_the_true_density_has_zero_kl_and_true_mode_weights():
    weights = [0.1, 0.2, 0.7]
    truth = GaussianMixture(centres=[[-2, 0], [2, 0], [0, 3]], std=0.3, weights=weights)
    x = truth.sample(2000, torch.Generator().manual_seed(1))
    standard = fit_standardization(x, True)
    points = Points(x, x, standardization=standard, truth=truth)

    class Truth(nn.Module):
        def forward(self, u):
            return -truth.log_prob(standard.to_data(u))

    u = standard.to_standard(x)
    found, _ = Quadrature(every=1)(
        make_input(Truth(), 1.0, Region(u.amin(0), u.amax(0)), standard, points)
    )
    assert found["kl"] == pytest.approx(0, abs=1e-6)
    assert found["log_z"] == pytest.approx(0, abs=1e-3)
    assert found["mode_weights"] == pytest.approx(weights, abs=1e-4)
    assert found["mode_kl"] == pytest.approx(0, abs=1e-6)
    assert abs(found["regret"]) < 4 * found["nll_se"]  # type: ignore[operator]


def test_kl_of_wrong_mode_weights():
    """KL = sum w log(w / v), all of it between modes; with wider modes too, a part of it."""
    centres, weights, wrong = [[-2.0, 0], [2, 0]], [0.2, 0.8], [0.5, 0.5]
    truth = GaussianMixture(centres=centres, std=0.3, weights=weights)
    x = truth.sample(2000, torch.Generator().manual_seed(1))
    points = Points(x, x, standardization=fit_standardization(x, False), truth=truth)

    class Mixture(nn.Module):
        def __init__(self, std):
            super().__init__()
            self.density = GaussianMixture(centres=centres, std=std, weights=wrong)

        def forward(self, u):
            return -self.density.log_prob(u)

    between = sum(w * math.log(w / v) for w, v in zip(weights, wrong, strict=True))
    for std in (0.3, 0.5):
        model = make_input(Mixture(std), 1.0, box(2), points.standardization, points)
        found, _ = Quadrature(every=1)(model)
        assert found["mode_kl"] == pytest.approx(between, abs=1e-3)
        within = math.log(std / 0.3) * 2 + 0.3**2 / std**2 - 1
        assert found["kl"] == pytest.approx(between + within, abs=1e-3)


def test_a_density_with_zeros():
    """A uniform model of a checkerboard that fills half of its square: KL = log 2."""
    truth = Checkerboard()
    x = truth.sample(4000, torch.Generator().manual_seed(1))
    points = Points(x, x, standardization=fit_standardization(x, False), truth=truth)

    class Square(nn.Module):
        def forward(self, u):
            return torch.where(u.abs().amax(1) <= 4, 0.0, math.inf).double()

    found, _ = Quadrature(every=1)(
        make_input(Square(), 1.0, box(2, 4.0), points.standardization, points)
    )
    # The grid's cells cross the edge of the square: a part of a cell's width is lost there.
    assert found["kl"] == pytest.approx(math.log(2), abs=0.03)
    assert found["entropy"] == pytest.approx(math.log(32))


def test_four_dimensions_give_a_notice_and_no_metrics():
    found = Quadrature(every=1)(
        make_input(Bowl([0.0] * 4, [1.0] * 4), 1.0, box(4), units([0.0] * 4, [1.0] * 4), None)
    )
    notice = "no exact evaluation: quadrature works in up to 3 dimensions, the data have 4"
    assert found == Evaluation({}, [f"{notice}; choose evaluation=ais"])


def test_evaluation_does_not_modify_the_model(configured):
    experiment = build(configured("model.spectral_norm=true"))
    before = {k: v.clone() for k, v in experiment.energy.state_dict().items()}
    experiment.energy.train()
    experiment.evaluators["evaluation"](evaluation_input(experiment, experiment.energy, {}))
    assert experiment.energy.training
    for name, value in experiment.energy.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


EXACT = ("train.steps=40", "evaluation.resolution=256", "evaluation.tolerance=1e-3")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("words", [("dataset=five_gaussians",), ("dataset=moons",),
                                   ("sampler.temperature=2",)])  # fmt: skip
def test_an_independent_grid_gives_the_same_values(configured, tmp_path: Path, words):
    """numpy, the public energy and the true density, without the code of the evaluation."""
    run_experiment(
        build(configured(*EXACT, *words)),
        tmp_path / "run",
        {},
        quiet=True,
    )
    run = ebmtrain.load(tmp_path / "run")
    metrics = json.loads((tmp_path / "run/result.json").read_text())["metrics"]
    axis = np.linspace(-20, 20, 801)
    x = torch.tensor(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    with torch.no_grad():
        log_q = -np.concatenate([run.energy(p).numpy() for p in x.split(8192)]).astype(float)
    log_q /= run.temperature
    cell = (axis[1] - axis[0]) ** 2
    top = log_q.max()
    log_z = top + math.log(np.exp(log_q - top).sum() * cell)
    log_p = run.experiment.dataset.truth.log_prob(x).numpy()  # type: ignore[union-attr]
    kl = (np.exp(log_p) * (log_p - log_q + log_z)).sum() * cell
    assert metrics["log_z"] == pytest.approx(log_z, abs=2e-3)
    assert metrics["kl"] == pytest.approx(kl, abs=2e-3)


@pytest.mark.parametrize(("d", "n_per_axis"), [(1, 101), (2, 64), (2, 65), (3, 33)])
def test_resolution_error_for_even_and_odd_numbers_of_cells(d, n_per_axis):
    """Both resolutions integrate a wide smooth Gaussian exactly, whether n is odd or even."""
    region = Region(torch.full((d,), -8.0), torch.full((d,), 8.0))
    found = integrate_log_z(lambda x: x.square().sum(1) / 2, region, n_per_axis, 1e-3, attempts=0)
    assert found.resolution_error < 1e-4


def test_the_mass_outside_is_a_fraction():
    """For a flat energy on a line, half of the box of twice the width is outside of the box."""
    region = Region(torch.tensor([-1.0]), torch.tensor([1.0]))
    assert integrate_log_z(
        lambda x: 0 * x[:, 0], region, 64, 1e-3, attempts=0
    ).outside == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_log_z_learnt_is_in_the_units_of_the_data(configured, tmp_path):
    """Points of standard deviation 50: log Z in data units is larger by 2 log 50 than in
    standardized ones. Learnt and exact values agree, in the result and by `ebmtrain evaluate`.
    """
    words = ("method=nce", "model.base_std=1", "optimizer.lr=0.01", "train.steps=300",
             "train.batch_size=200", "train.ema=null", "dataset.density.centres=[[10,20]]",
             "dataset.density.std=50")  # fmt: skip
    run = tmp_path / "run"
    run_experiment(build(configured(*words)), run, {}, quiet=True)
    metrics = json.loads((run / "result.json").read_text())["metrics"]
    assert metrics["log_z_learnt"] == pytest.approx(metrics["log_z"], abs=0.1)
    assert main(["evaluate", str(run)]) == 0
    again = json.loads((run / "evaluation.json").read_text())["metrics"]
    assert again["log_z_learnt"] == metrics["log_z_learnt"]


def test_a_single_held_out_point_has_no_standard_error():
    nll, error = mean_nll(torch.tensor([-2.0]))
    assert (nll, error) == (2.0, math.inf)
    assert _nll_metrics(nll, error) == {"nll": 2.0}
    assert _nll_metrics(2.0, 0.5) == {"nll": 2.0, "nll_se": 0.5}
