"""KL of truths finer than any grid, against Gauss-Hermite quadrature for each mode."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ebmtrain.datasets.checkerboard import Checkerboard
from ebmtrain.datasets.gaussian_mixture import GaussianMixture
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.evaluation.estimators import adaptive_quadrature
from ebmtrain.evaluation.estimators.adaptive_quadrature import expectation
from ebmtrain.evaluation.exact import Quadrature, _disagreement
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput
from ebmtrain.models.gaussian import Gaussian
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Density, Region


class Bowl(nn.Module):
    """A Gaussian with standard deviation 1.1 about 0.2."""

    def forward(self, u):
        return ((u - 0.2) / 1.1).square().sum(1) / 2


class SmallMLP(nn.Module):
    """A random perceptron in a bowl."""

    def __init__(self, d: int):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, 1))
        for p in self.layers.parameters():
            p.data = torch.randn(p.shape, generator=generator)

    def forward(self, u):
        return self.layers(u)[:, 0] + u.square().sum(1) / 2


def mixture(d: int, std: float) -> GaussianMixture:
    centres = [[-1.3, 2.1, 0.4][:d], [1.7, -0.6, -1.9][:d]]
    return GaussianMixture(centres=centres, std=std, weights=[0.3, 0.7])


def points(
    truth: Density,
    n: int = 500,
    *,
    seed: int = 2,
    standardize: bool = True,
    train: Density | None = None,
) -> Points:
    generator = torch.Generator().manual_seed(seed)
    x, holdout = (train or truth).sample(n, generator), truth.sample(n, generator)
    return Points(x, holdout, standardization=fit_standardization(x, standardize), truth=truth)


def evaluate(energy: nn.Module, data: Points, **options) -> Evaluation:
    def unused(*_):
        raise AssertionError("quadrature draws nothing")

    u = data.standardization.to_standard(data.train)
    inputs = EvaluationInput(
        energy=energy, temperature=1.0, region=Region(u.amin(0), u.amax(0)),
        standardization=data.standardization, dataset=data, draw=unused, generator=unused,
        sampler=Mala(step_size=0.1), method={}, trace=unused,
    )  # fmt: skip
    return Quadrature(every=1, **options)(inputs)


def gauss_hermite_kl(
    truth: GaussianMixture, energy: nn.Module, data: Points, log_z: float
) -> float:
    """sum_k w_k E_k[log p + E] + log Z, the expectation over mode k by Gauss-Hermite nodes.

    Args:
        log_z: in the data's units.
    """
    x, w = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(40))
    d = len(truth.centres[0])
    z = torch.cartesian_prod(*[x] * d).view(-1, d)
    weights = torch.cartesian_prod(*[w / w.sum()] * d).view(-1, d).prod(1)
    total = log_z
    exact = energy.double()
    for centre, weight in zip(*truth.modes, strict=True):
        at = centre + truth.std * z
        with torch.no_grad():
            ratio = truth.log_prob(at) + exact(data.standardization.to_standard(at))
        total += float(weight * (weights @ ratio))
    return total


@pytest.mark.parametrize("std", [0.3, 0.1, 0.03, 0.01, 0.003])
@pytest.mark.parametrize("d", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", ["bowl", "mlp"])
def test_kl_of_narrow_modes(model, d, std):
    truth = mixture(d, std)
    data, energy = points(truth), Bowl() if model == "bowl" else SmallMLP(d)
    found, warnings = evaluate(energy, data)
    assert warnings == []
    true = gauss_hermite_kl(truth, energy, data, found["log_z"])  # type: ignore[arg-type]
    print(f"{model} d={d} std={std}: {found['kl'] - true:+.1e} nats")  # type: ignore[operator]
    assert found["kl"] == pytest.approx(true, abs=1e-3)


class Correlated(nn.Module):
    """A Gaussian with a full precision matrix, whose log Z is known up to an error."""

    precision = torch.tensor([[1.5, 0.4, -0.2], [0.4, 1.1, 0.3], [-0.2, 0.3, 0.8]])

    def __init__(self, d: int, error: float = 0.0):
        super().__init__()
        self.register_buffer("a", self.precision[:d, :d].double())
        self.error = error

    def forward(self, u):
        return ((u - 0.1) @ self.a.to(u) * (u - 0.1)).sum(1) / 2

    def log_z(self, temperature):
        d = len(self.a)
        return torch.tensor(
            (d * math.log(2 * math.pi) - float(torch.logdet(self.a))) / 2 + self.error
        )


def gaussian_model(d: int) -> Gaussian:
    """With a random mean and covariance."""
    model, generator = Gaussian(event_shape=(d,), initial_std=0.9), torch.Generator().manual_seed(3)
    model.mean.data = torch.randn(d, generator=generator) * 0.3
    model.lower.data = torch.randn(d, d, generator=generator) * 0.5
    model.log_diagonal.data += torch.randn(d, generator=generator) * 0.2
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("centres", "std", "weight", "seed"),
    [
        ([[0.0595, -0.2198], [-1.378, -0.918]], 0.0318, 0.23, 63),
        ([[-1.274, -1.424], [-0.854, -1.091]], 0.0244, 0.22, 208),
        ([[-1.143, -0.369, 0.025], [0.457, -0.491, -0.754]], 0.1215, 0.11, 6),
    ],
)
def test_a_grid_that_agrees_with_half_of_it_by_chance_is_not_used(centres, std, weight, seed):
    """The halves across each axis differ. Found among 310 random mixtures."""
    truth = GaussianMixture(centres=centres, std=std, weights=[weight, 1 - weight])
    data = points(truth, seed=seed, standardize=False)
    energy = gaussian_model(len(centres[0]))
    found, warnings = evaluate(energy, data)
    true = gauss_hermite_kl(truth, energy, data, found["log_z"])  # type: ignore[arg-type]
    assert warnings == []
    assert found["kl"] == pytest.approx(true, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "standardize"), [(20, True), (7, False)])
def test_a_checkerboard_between_the_lines_of_the_grid(seed, standardize):
    """Every second point in turns agrees with the grid by chance, the halves across an axis do not.
    Reference: Gauss-Legendre nodes in each square."""
    truth = Checkerboard(squares=6, side=0.7)
    data = points(truth, seed=seed, standardize=standardize)
    energy = gaussian_model(2)
    found, warnings = evaluate(energy, data)
    assert warnings == []
    z, w = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(20))
    corner = torch.arange(6, dtype=torch.float64) * 0.7 - 2.1
    axis = (corner[:, None] + 0.35 * (z + 1)).flatten()
    weight = (0.35 * w).repeat(6)
    x, weights = torch.cartesian_prod(axis, axis), torch.cartesian_prod(weight, weight).prod(1)
    log_p = truth.log_prob(x)
    p = weights * log_p.exp()
    assert float(p.sum()) == pytest.approx(1)
    with torch.no_grad():
        e = energy.double()(data.standardization.to_standard(x))
    ratio = torch.where(p > 0, log_p + e, 0.0)
    true = float(p @ ratio) + found["log_z"]  # type: ignore[operator]
    assert found["kl"] == pytest.approx(true, abs=1e-3)


@pytest.mark.slow
def test_random_mixtures_have_their_kl_or_none():
    """With standard deviations for which the grid is just too coarse; some agree by chance."""
    generator, n_with_kl = np.random.default_rng(0), 0
    energy = gaussian_model(2)
    for seed in range(25):
        centres = generator.uniform(-1.5, 1.5, (2, 2)).tolist()
        std = float(np.exp(generator.uniform(math.log(0.006), math.log(0.035))))
        weight = generator.uniform(0.1, 0.9)
        truth = GaussianMixture(centres=centres, std=std, weights=[weight, 1 - weight])
        data = points(truth, seed=seed, standardize=False)
        found, warnings = evaluate(energy, data)
        if not warnings:
            true = gauss_hermite_kl(truth, energy, data, found["log_z"])  # type: ignore[arg-type]
            assert found["kl"] == pytest.approx(true, abs=1e-3), (seed, std)
            n_with_kl += 1
    assert n_with_kl > 20


class WithoutModes:
    """The same density, which does not know its modes."""

    modes = None

    def __init__(self, truth: GaussianMixture):
        self.sample, self.log_prob, self.entropy = truth.sample, truth.log_prob, truth.entropy


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("d", "far", "weight"), [(1, 30.0, 8e-4), (2, 12.0, 8e-4), (1, 30.0, 0.02)]
)
def test_a_rare_mode_outside_of_the_grid_is_part_of_kl(known, d, far, weight):
    """None of the training points is in it."""
    centres = [[0.0] * d, [far] + [0.0] * (d - 1)]
    truth = GaussianMixture(centres=centres, std=0.5, weights=[1 - weight, weight])
    near = GaussianMixture(centres=centres[:1], std=0.5)
    seen = truth if known else WithoutModes(truth)
    data, energy = points(seen, n=20, train=near), Bowl()
    found, _ = evaluate(energy, data)
    true = gauss_hermite_kl(truth, energy, data, found["log_z"])  # type: ignore[arg-type]
    assert true > 0.1
    assert found["kl"] == pytest.approx(true, abs=1e-3)


def test_a_narrow_rare_mode_is_found_by_its_centre():
    truth = GaussianMixture(centres=[[0.0], [30.0]], std=1e-5, weights=[0.9999, 1e-4])
    near = GaussianMixture(centres=[[0.0]], std=1e-5)
    data, energy = points(truth, n=20, train=near, standardize=False), Correlated(1)
    found, _ = evaluate(energy, data)
    true = gauss_hermite_kl(truth, energy, data, found["log_z"])  # type: ignore[arg-type]
    assert found["kl"] == pytest.approx(true, abs=1e-3)


def test_kl_uses_the_log_z_of_the_model():
    data = points(mixture(2, 0.3))
    right, wrong = (evaluate(Correlated(2, error), data).metrics for error in (0.0, 0.005))
    assert wrong["kl"] - right["kl"] == pytest.approx(0.005, abs=1e-6)  # type: ignore[operator]


class Spike(GaussianMixture):
    """N(0, I) with 5 % of its mass narrower than any grid."""

    def log_prob(self, x):
        broad = math.log(0.95) - x.square().sum(1) / 2 - math.log(2 * math.pi)
        narrow = -(x - torch.tensor([0.513, 0.317]).to(x)).square().sum(1) / 2e-6
        narrow = narrow + math.log(0.05) - math.log(2 * math.pi) + 2 * math.log(1e3)
        return torch.logaddexp(broad, narrow)


class SpikeEnergy(nn.Module):
    def forward(self, u):
        return -Spike(centres=[[0.0, 0.0]], std=1.0).log_prob(u)


def test_a_negative_kl_is_left_out():
    """The model is the truth, and the grid of log Z misses a part of it."""
    truth = Spike(centres=[[0.0, 0.0]], std=1.0)
    found, warnings = evaluate(SpikeEnergy(), points(truth, standardize=False))
    assert "kl" not in found
    assert any("a KL is at least 0" in warning for warning in warnings)


@pytest.mark.parametrize(("regret", "warns"), [(0.05, False), (0.1, True)])
def test_the_disagreement_is_measured_in_standard_errors(regret, warns):
    metrics = {"kl": 0.0, "regret": regret}
    assert bool(_disagreement(metrics, 0.01, 1e-3)) == warns


def test_a_resolved_truth_is_integrated_on_the_grid(monkeypatch):
    monkeypatch.setattr("ebmtrain.evaluation.exact.expectation", None)
    assert "kl" in evaluate(Bowl(), points(mixture(2, 0.3))).metrics


class Twice(GaussianMixture):
    """A density that is wrong by a factor of 2."""

    def log_prob(self, x):
        return super().log_prob(x) + math.log(2)


def test_a_density_that_is_not_normalised_has_no_kl():
    truth = Twice(centres=[[-1.3, 2.1], [1.7, -0.6]], std=0.3, weights=[0.3, 0.7])
    found, warnings = evaluate(Bowl(), points(truth), resolution=64)
    assert "kl" not in found
    assert "mode_kl" not in found
    assert "mode_weights" in found
    assert len(warnings) == 1
    assert warnings[0].startswith("no KL: the error of its quadrature is")
    assert "it integrates to 2)" in warnings[0]


class WrongEntropy(GaussianMixture):
    @property
    def entropy(self) -> float:
        return super().entropy - 1.0


def test_kl_and_regret_that_disagree_are_a_warning():
    truth = WrongEntropy(centres=[[0.0, 0.0]], std=0.5)
    found, warnings = evaluate(Bowl(), points(truth, 2000))
    assert {"kl", "regret"} <= found.keys()
    assert len(warnings) == 1
    assert "the density or the entropy of the truth is wrong" in warnings[0]


def test_expectation_over_jumps():
    """E[exp(x / 4)] on a checkerboard: squares of side 2 from -4 to 4, each x alike."""
    truth = Checkerboard()
    samples = truth.sample(2000, torch.Generator().manual_seed(1))
    region = Region(torch.tensor([-6.1, -6.3]).double(), torch.tensor([6.5, 5.9]).double())
    found = expectation(truth.log_prob, lambda x, _: (x[:, 0] / 4).exp(), region, samples, 5e-3)
    assert found.error <= 5e-3
    assert found.value == pytest.approx(math.sinh(1), abs=5e-3)
    assert found.mass == pytest.approx(1, abs=5e-3)


def test_too_few_points_have_an_error_above_the_tolerance():
    truth = mixture(3, 0.003)
    samples = truth.sample(500, torch.Generator().manual_seed(1))
    region = Region(torch.full((3,), -4.0), torch.full((3,), 4.0))
    found = expectation(
        truth.log_prob, lambda x, _: x[:, 0], region, samples, 1e-3, max_points=20_000
    )
    assert found.error > 1e-3
    assert found.evaluations <= 20_000


@pytest.mark.parametrize("resolution", [32, 35])
def test_a_grid_that_has_the_true_mass_by_chance_is_not_used(resolution):
    truth, energy = mixture(2, 0.3), Bowl()
    data = points(truth)
    found, _ = evaluate(energy, data, resolution=resolution)
    true = gauss_hermite_kl(truth, energy, data, found["log_z"])  # type: ignore[arg-type]
    assert found["kl"] == pytest.approx(true, abs=1e-3)


@pytest.mark.parametrize("std", [3e-4, 1e-5])
def test_a_spike_with_few_samples_is_found_by_its_height(std):
    """One per cent of the mass, and three samples: too few for the rule of their spread."""
    parts = [torch.distributions.Normal(0.1, 1.0), torch.distributions.Normal(0.37, std)]
    log_weights = torch.tensor([0.99, 0.01], dtype=torch.float64).log()

    def log_p(x):
        return torch.logsumexp(log_weights + torch.cat([p.log_prob(x) for p in parts], 1), 1)

    generator = torch.Generator().manual_seed(1)
    samples = 0.1 + torch.randn(300, 1, generator=generator, dtype=torch.float64).clamp(-4, 4)
    samples[:3] = 0.37 + std * torch.tensor([[-0.8], [0.1], [1.1]])
    region = Region(torch.tensor([-7.0]).double(), torch.tensor([7.3]).double())
    found = expectation(log_p, lambda x, _: x[:, 0] ** 2, region, samples, 1e-3, max_points=3_000)
    assert found.error <= 1e-3
    assert found.value == pytest.approx(0.99 * 1.01 + 0.01 * 0.37**2, abs=1e-3)
    assert found.mass == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("off", [-2.0, 2.0])
def test_the_error_of_an_integral_does_not_depend_on_the_first_estimate(off):
    """A first log Z that is off sets the scale of the mass only: the integration is repeated."""
    region = Region(torch.full((2,), -8.0).double(), torch.full((2,), 8.0).double())
    seeds = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)).double()
    true = math.log(2 * math.pi)
    value, tree = adaptive_quadrature.integrate_adaptively(
        lambda x: x.square().sum(1) / 2, region, seeds, true + off, 1e-3
    )
    assert value == pytest.approx(true, abs=1e-3)
    assert tree.error <= 1e-3
    assert tree.mass == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_a_thin_curved_ridge_has_its_integral_or_a_larger_error():
    """x ~ N(0, 1) and y | x ~ N(3 x^2, 0.014^2): boxes that miss the ridge have no change."""
    std, noise = 0.014, torch.randn(240, 2, generator=torch.Generator().manual_seed(300)).double()
    seeds = torch.stack([noise[:, 0], 3 * noise[:, 0] ** 2 + std * noise[:, 1]], 1)

    def energy(x):
        return x[:, 0] ** 2 / 2 + ((x[:, 1] - 3 * x[:, 0] ** 2) / std) ** 2 / 2

    region = Region(seeds.amin(0), seeds.amax(0)).grown(2.0)
    true = math.log(2 * math.pi * std)
    value, tree = adaptive_quadrature.integrate_adaptively(energy, region, seeds, true, 1e-3)
    assert tree.error > 1e-3 or value == pytest.approx(true, abs=1e-3)


def test_the_error_of_an_integral_is_relative_to_its_mass():
    one = torch.ones(1, 1).double()
    integrals, error = torch.tensor([[0.1, 0, 0]]).double(), torch.tensor([[0.01, 0]]).double()
    boxes = adaptive_quadrature._Boxes(one, one, one, integrals, error)
    assert adaptive_quadrature._error(boxes, normalised=False) == pytest.approx(0.1)


def test_changes_of_opposite_signs_do_not_cancel():
    """Two boxes of uniform density, one of which gained what the other lost."""
    half = torch.full((2, 1), 0.5).double()
    error = torch.tensor([[0.03, 0.0], [-0.03, 0.0]]).double()
    integrals = torch.tensor([[0.5, 0.5, 0.5]] * 2).double()
    boxes = adaptive_quadrature._Boxes(half, half, half, integrals, error)
    assert adaptive_quadrature._error(boxes) == pytest.approx(0.03 * math.sqrt(2))
    same_sign = boxes._replace(error=error.abs())
    assert adaptive_quadrature._error(same_sign) == pytest.approx(0.06)


def test_missing_mass_counts_six_standard_deviations_of_the_function():
    """One box that holds 0.9999 of the mass, with standard deviation 30 of f: 1e-4 * 6 * 30."""
    one = torch.ones(1, 1).double()
    integrals = torch.tensor([[0.9999, 0.0, 0.9999 * 900.0]]).double()
    boxes = adaptive_quadrature._Boxes(one, one, one, integrals, torch.zeros(1, 2).double())
    assert adaptive_quadrature._error(boxes) == pytest.approx(0.018, rel=1e-3)


def test_a_constant_added_to_the_function_costs_nothing():
    """E[f + c] = E[f] + c: the error of the integral of p does not count c times."""
    truth = Checkerboard()
    samples = truth.sample(2000, torch.Generator().manual_seed(1))
    region = Region(torch.tensor([-6.1, -6.3]).double(), torch.tensor([6.5, 5.9]).double())
    found, shifted = (
        expectation(
            truth.log_prob, lambda x, _, c=c: c + x[:, 0] / 4, region, samples, 2e-2, 200_000
        )
        for c in (0.0, 100.0)
    )
    assert shifted.error <= 2e-2
    assert shifted.evaluations <= 1.5 * found.evaluations
    assert shifted.value == pytest.approx(100, abs=2e-2)
