"""scikit-learn's density estimators next to the model, in the data's own units."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor, nn

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.datasets.split import random_split
from ebmtrain.errors import ConfigError
from ebmtrain.evaluation import baselines as peers
from ebmtrain.evaluation.baselines import Baselines
from ebmtrain.evaluation.exact import Quadrature
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput
from ebmtrain.samplers.mala import Mala

MIX = torch.tensor([[3.0, 0.0], [-40.0, 2.0]], dtype=torch.float64)


class Wide(nn.Module):
    """E(u) = ||u||^2 / 3: worse than the true energy, so that the gains are not 0."""

    def forward(self, u: Tensor) -> Tensor:
        return u.square().sum(1) / 3


def unused_trace(*_):
    raise AssertionError


def points(scale: float = 1.0) -> Points:
    z = torch.randn(300, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return random_split(1e3 + scale * (z @ MIX.T), holdout=0.4, standardize="whiten", seed=1)


def evaluate(dataset: Points, temperature: float = 1.0, **options) -> Evaluation:
    u = dataset.standardization.to_standard(dataset.train)
    inputs = EvaluationInput(
        energy=Wide(), temperature=temperature, region=DataSpec.of(dataset).region,
        standardization=dataset.standardization, dataset=dataset, draw=lambda n: u[:n],
        generator=lambda _: torch.Generator(),
        sampler=Mala(step_size=0.1), method={}, trace=unused_trace,
    )  # fmt: skip
    options = {"ours": Quadrature(every=1), "components": 2, "bandwidths": 12, **options}
    return Baselines(**options)(inputs)


def test_mixture_with_one_component_equals_the_gaussian():
    dataset = points()
    found = evaluate(dataset).metrics
    mean, covariance = dataset.train.mean(0), torch.cov(dataset.train.T, correction=0)
    log_p = multivariate_normal(mean, covariance).logpdf(dataset.holdout)
    assert found["peer_nll_gmm"] == pytest.approx(-log_p.mean(), abs=1e-3)
    assert found["peer_nll_gaussian"] == pytest.approx(-log_p.mean(), abs=1e-3)
    # That of the model is known too, and so is the error of the difference.
    own = -Wide()(dataset.standardization.to_standard(dataset.holdout))
    own -= math.log(3 * math.pi) + dataset.standardization.log_volume
    gain = own - torch.from_numpy(log_p)
    assert found["gain_over_gmm"] == pytest.approx(float(gain.mean()), abs=2e-3)
    assert found["gain_over_gmm"] == pytest.approx(found["peer_nll_gmm"] - found["nll"], abs=1e-9)
    assert found["gain_over_gmm_se"] == pytest.approx(float(gain.std()) / 120**0.5, abs=1e-3)


def test_a_gain_is_at_the_temperature_of_the_model():
    found = evaluate(points(), temperature=2.0, bandwidths=2, components=1).metrics
    for name in ("gaussian", "kde", "gmm"):
        difference = found[f"peer_nll_{name}"] - found["nll"]  # type: ignore[operator]
        assert found[f"gain_over_{name}"] == pytest.approx(difference, abs=1e-9)


@dataclass
class FixedLogZ:
    """Reports the log Z that it is given."""

    error: float
    every: int = 1

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        return Evaluation({"log_z": 3.0, "log_z_se": self.error}, [])


def test_error_of_a_gain_includes_that_of_log_z():
    sure, unsure = (
        evaluate(points(), ours=FixedLogZ(error), bandwidths=2, components=1).metrics
        for error in (0.0, 0.7)
    )
    for name in ("gain_over_gmm", "gain_over_kde", "gain_over_gaussian"):
        assert unsure[name] == sure[name]
        assert unsure[f"{name}_se"] == pytest.approx(math.hypot(sure[f"{name}_se"], 0.7))


def test_kernel_density_is_close_to_the_truth():
    """Not better than the truth and not much worse: the correlated columns are whitened first."""
    dataset = points()
    found = evaluate(dataset).metrics
    truth = multivariate_normal([1e3, 1e3], MIX @ MIX.T).logpdf(dataset.holdout)
    assert 0 < found["peer_nll_kde"] + truth.mean() < 0.25
    # Kernels along the axes of standardized columns, which are correlated by 0.999, do far worse.
    assert found["peer_nll_kde"] < best_axis_aligned_nll(dataset) - 0.3


def best_axis_aligned_nll(dataset: Points) -> float:
    """The best NLL of any bandwidth, by the formula."""
    mean, std = dataset.train.mean(0), dataset.train.std(0)
    u, v = ((x - mean) / std for x in (dataset.train, dataset.holdout))
    squared = torch.cdist(v, u).square()
    best = math.inf
    for h in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8):
        log_p = torch.logsumexp(-squared / (2 * h * h), 1) - math.log(len(u) * 2 * math.pi * h * h)
        best = min(best, float(-log_p.mean() + std.log().sum()))
    return best


def test_results_do_not_depend_on_units():
    one, other = evaluate(points()).metrics, evaluate(points(1e-3)).metrics
    for name in ("nll", "peer_nll_kde", "peer_nll_gmm"):
        assert one[name] - other[name] == pytest.approx(2 * math.log(1e3), abs=1e-4)


@pytest.mark.slow
def test_number_of_components_can_be_fixed():
    """Two separated Gaussians, whose NLL is known; one component cannot reach it."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 2, dtype=torch.float64, generator=g)
    x[::2] += 20.0
    dataset = random_split(x, holdout=0.4, standardize=True, seed=1)
    truth = math.log(2) + math.log(2 * math.pi) + 1  # 2 halves, d = 2 coordinates of variance 1
    one, two = (evaluate(dataset, fewest=n, components=n).metrics for n in (1, 2))
    assert one["peer_nll_gmm"] == pytest.approx(one["peer_nll_gaussian"], abs=1e-3)
    assert one["peer_nll_gmm"] > truth + 1
    assert two["peer_nll_gmm"] == pytest.approx(truth, abs=4 * (1 / 160) ** 0.5 + 0.05)
    # Of one Gaussian the BIC would take one component.
    single = points()
    three, free = (evaluate(single, fewest=n, components=3).metrics for n in (3, 1))
    assert abs(three["peer_nll_gmm"] - free["peer_nll_gmm"]) > 1e-3
    assert free["peer_nll_gmm"] == pytest.approx(free["peer_nll_gaussian"], abs=1e-3)
    with pytest.raises(ValueError, match=r"evaluation.fewest=3 must be at most .*=2: lower it"):
        Baselines(ours=Quadrature(every=1), fewest=3, components=2)


def test_mixture_has_the_smallest_bic_in_the_units_of_the_data(monkeypatch):
    """For one Gaussian with correlated columns all likelihoods are equal: in whitened units a
    spherical covariance reaches them with the fewest parameters.
    """
    chosen = []
    monkeypatch.setattr(
        peers, "_baseline_log_p", lambda fit, unit, x: chosen.append((fit, unit)) or x[:, 0]
    )
    dataset = points()
    evaluate(dataset)
    *_, (fit, unit) = chosen
    assert (fit.covariance_type, fit.n_components) == ("spherical", 1)
    assert unit.mixing is not None


def test_missing_scikit_learn_is_an_error_before_training(command, monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "sklearn"] + ["sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="pip install 'ebmtrain\\[data\\]'"):
        Baselines(ours=Quadrature(every=1))
    for word in ("dataset=wine", "evaluation=peers"):
        outcome = command("check", word)
        assert outcome.code == 2
        assert outcome.err.startswith(f"ebmtrain: {word} needs scikit-learn")
        assert outcome.err.count("\n") == 1
