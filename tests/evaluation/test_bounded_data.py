"""Change of variables: numbers of data with bounds are those of the analytic densities."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import nn

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.datasets.split import random_split
from ebmtrain.evaluation.ais import AnnealedImportanceSampling
from ebmtrain.evaluation.alarms import GaussianReference
from ebmtrain.evaluation.baselines import Baselines
from ebmtrain.evaluation.estimators.stein import true_scores
from ebmtrain.evaluation.exact import Quadrature
from ebmtrain.evaluation.ood_detection import OutlierBaselines
from ebmtrain.evaluation.protocol import EvaluationInput
from ebmtrain.samplers.hmc import Hmc
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Bounds, Modes

INF = math.inf
MEAN, STD = torch.tensor([0.7, -0.4]).double(), torch.tensor([0.5, 0.9]).double()
BOUNDS = Bounds(torch.tensor([2.0, -1.0]).double(), torch.tensor([INF, 3.0]).double())
"""The first coordinate is lognormal above 2, the second logit-normal in (-1, 3)."""


class Truth:
    """By the densities of scipy and, for logit-normal, the Jacobian by hand."""

    modes: Modes | None = None

    def sample(self, count, generator):
        z = torch.randn(count, 2, dtype=torch.float64, generator=generator)
        return BOUNDS.from_real(MEAN + STD * z)

    def log_prob(self, x):
        a, b = x.double().cpu().unbind(1)
        first = stats.lognorm(float(STD[0]), 2, math.exp(MEAN[0])).logpdf(a)
        y = torch.log((b + 1) / (3 - b))
        second = stats.norm(float(MEAN[1]), float(STD[1])).logpdf(y)
        return torch.from_numpy(first + second) + math.log(4) - ((b + 1) * (3 - b)).log()

    @property
    def entropy(self):
        x = self.sample(200_000, torch.Generator().manual_seed(9))
        return -float(self.log_prob(x).mean())


class Exact(nn.Module):
    """The energy of the truth in standardized units, at T."""

    def __init__(self, units, temperature, power=1.0):
        super().__init__()
        self.units, self.temperature, self.power = units, temperature, power

    def forward(self, u):
        y = u.double() * self.units.scale + self.units.shift
        return self.power * self.temperature * ((y - MEAN) / STD).square().sum(1) / 2


def inputs(temperature=1.0, truth=None, n=4000, power=1.0) -> EvaluationInput:
    x = Truth().sample(n, torch.Generator().manual_seed(0))
    points = random_split(x, holdout=0.5, standardize=True, seed=0, bounds=BOUNDS)
    points = replace(points, truth=truth)
    u = points.standardization.to_standard(x)

    def unused(*_):
        raise AssertionError

    return EvaluationInput(
        energy=Exact(points.standardization, temperature, power), temperature=temperature,
        region=DataSpec.of(points).region, standardization=points.standardization,
        dataset=points, draw=lambda k: u[:k], sampler=Mala(step_size=0.1), method={}, trace=unused,
        generator=lambda purpose: torch.Generator().manual_seed(sum(map(ord, purpose))),
    )  # fmt: skip


def analytic(points: Points) -> torch.Tensor:
    return Truth().log_prob(points.holdout)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_nll_by_quadrature_is_that_of_the_analytic_density(temperature):
    model = inputs(temperature)
    found = Quadrature(every=1)(model)
    assert not found.warnings
    log_p = analytic(model.dataset)
    assert found.metrics["nll"] == pytest.approx(-float(log_p.mean()), abs=1e-3)
    assert found.metrics["nll_se"] == pytest.approx(float(log_p.std()) / 2000**0.5, rel=1e-3)
    assert abs(found.metrics["nll"] - Truth().entropy) < 4 * found.metrics["nll_se"]
    # log Z of the energies in the data's units, which hold the slope.
    assert found.metrics["log_z"] == pytest.approx(
        math.log(2 * math.pi) + float(STD.log().sum()), abs=1e-3
    )


def test_kl_and_regret_of_a_known_truth_are_those_of_the_analytic_density():
    """KL is the same in any coordinates: of N(m, s^2) from N(m, s^2 / power) in each."""
    metrics = Quadrature(every=1)(inputs(truth=Truth(), power=0.5)).metrics
    kl = 2 * (0.5 * 0.5 - 0.5 - 0.5 * math.log(0.5))
    assert metrics["kl"] == pytest.approx(kl, abs=2e-3)
    assert abs(metrics["regret"] - kl) < 4 * metrics["nll_se"]
    perfect = Quadrature(every=1)(inputs(truth=Truth())).metrics
    assert perfect["kl"] == pytest.approx(0, abs=1e-3)
    assert perfect["log_density_mse"] == pytest.approx(0, abs=1e-5)


def test_the_nll_by_annealing_is_that_of_the_analytic_density():
    model = inputs(n=1000)
    metrics = AnnealedImportanceSampling(
        every=1, kernel=Hmc(step_size=0.3), chains=200, temperatures=100
    )(model).metrics
    nll = -float(analytic(model.dataset).mean())
    assert metrics["nll_lower"] - 0.01 <= nll <= metrics["nll_upper"] + 0.01
    assert metrics["nll"] == pytest.approx(nll, abs=0.05)


def test_baselines_are_densities_inside_of_the_bounds():
    """The Gaussian in mapped units is the maximum-likelihood lognormal and logit-normal density."""
    model = inputs(n=600)
    found = Baselines(ours=Quadrature(every=1), components=1, bandwidths=5)(model).metrics
    dataset = model.dataset
    y = BOUNDS.to_real(dataset.train)
    gaussian = stats.multivariate_normal(y.mean(0), torch.cov(y.T, correction=0))
    peer = torch.from_numpy(gaussian.logpdf(BOUNDS.to_real(dataset.holdout)))
    peer = peer + BOUNDS.log_slope(dataset.holdout)
    assert found["peer_nll_gaussian"] == pytest.approx(-float(peer.mean()), abs=1e-3)
    gain = float((analytic(dataset) - peer).mean())
    assert found["gain_over_gaussian"] == pytest.approx(gain, abs=2e-3)
    assert found["gain_over_gaussian"] == pytest.approx(
        found["peer_nll_gaussian"] - found["nll"], abs=1e-9
    )


def test_the_reference_of_the_alarm_is_in_the_units_of_the_data():
    model = inputs()
    reference = GaussianReference.of(model.dataset.train, model.standardization)
    nll = -float(Truth().log_prob(model.dataset.train).mean())
    assert reference.nll == pytest.approx(nll, abs=0.02)


def test_true_scores_are_those_of_the_density_of_standardized_points():
    model = inputs(truth=ExactInTorch())
    u = model.standardization.to_standard(model.dataset.holdout[:50])
    s = true_scores(model.dataset, u)
    y = u * model.standardization.scale + model.standardization.shift
    torch.testing.assert_close(s, (MEAN - y) / STD.square() * model.standardization.scale)


class ExactInTorch(Truth):
    """The same density, differentiable."""

    def log_prob(self, x):
        y = BOUNDS.to_real(x)
        normal = torch.distributions.Normal(MEAN, STD).log_prob(y).sum(1)
        return normal + BOUNDS.log_slope(x)


def test_the_anomaly_score_is_the_density_in_the_units_of_the_data():
    """Of points with the same distribution as the held-out ones, below the median of the first
    coordinate: their order by density differs in mapped units."""
    model = inputs(n=400)
    anomalies = Truth().sample(200, torch.Generator().manual_seed(1))
    anomalies = anomalies[anomalies[:, 0] < 2 + math.exp(MEAN[0])]
    dataset = replace(model.dataset, anomalies=anomalies)
    found = OutlierBaselines(every=1)(replace(model, dataset=dataset)).metrics
    held, out = Truth().log_prob(dataset.holdout), Truth().log_prob(anomalies)
    expected = (held[:, None] > out[None]).double().mean()
    assert found["auroc"] == pytest.approx(float(expected), abs=1e-6)
