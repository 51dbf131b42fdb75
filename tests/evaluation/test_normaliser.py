"""Energies that give their own log Z: closed forms, and spaces that can be enumerated."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.datasets.gaussian_mixture import GaussianMixture as Mixture
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.evaluation.estimators.grid_quadrature import integrate_log_z
from ebmtrain.evaluation.exact import Quadrature
from ebmtrain.evaluation.protocol import EvaluationInput
from ebmtrain.models.gaussian import Gaussian
from ebmtrain.models.gaussian_mixture import GaussianMixture
from ebmtrain.models.harmonic import Harmonic
from ebmtrain.models.rosenbrock import Rosenbrock
from ebmtrain.runs.evaluate import evaluation_input
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Region, Standardization


def unused(*_):
    raise AssertionError("draws nothing")


def make_input(energy, points, temperature=1.0) -> EvaluationInput:
    u = points.standardization.to_standard(points.train).flatten(1)
    return EvaluationInput(
        energy=energy, temperature=temperature, region=Region(u.amin(0), u.amax(0)),
        standardization=points.standardization, dataset=points, draw=unused, generator=unused,
        sampler=Mala(step_size=0.1), method={}, trace=unused,
    )  # fmt: skip


def scrambled(d: int) -> Gaussian:
    model = Gaussian(event_shape=(d,)).double()
    g = torch.Generator().manual_seed(d)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=g, dtype=torch.float64))
    return model


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    "model", [scrambled(2), Harmonic(condition=9.0), Rosenbrock(a=0.5, b=2.0, scale=0.7)],
    ids=lambda model: type(model).__name__,
)  # fmt: skip
def test_closed_forms_equal_integrals_at_any_temperature(model, temperature):
    exact = model.double()
    region = Region(torch.full((2,), -9.0), torch.full((2,), 9.0))
    found = integrate_log_z(lambda u: exact(u) / temperature, region, 256, 1e-4)
    assert float(model.log_z(temperature).detach()) == pytest.approx(found.value, abs=1e-4)


def test_a_mixture_has_log_z_at_one_temperature_only():
    assert GaussianMixture().log_z(2.0) is None
    assert float(GaussianMixture().log_z(1.0)) == 0  # type: ignore[arg-type]


def truth_of(d: int) -> Mixture:
    return Mixture(centres=[[1.0] * d], std=0.5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("d", [2, 10])
def test_metrics_of_a_gaussian_in_the_units_of_the_data(d, temperature):
    """log q = log N(x; mean, T / P) by scipy, and KL between Gaussians in closed form."""
    from scipy.stats import multivariate_normal

    truth, g = truth_of(d), torch.Generator().manual_seed(1)
    train, held = truth.sample(500, g), truth.sample(4000, g)
    units = fit_standardization(train, True)
    points = Points(train, held, standardization=units, truth=truth)
    model = scrambled(d)
    found, warnings = Quadrature(every=1, resolution=64)(make_input(model, points, temperature))
    assert warnings == []
    factor = model.factor.detach() / units.scale[:, None]
    covariance = temperature * torch.linalg.inv(factor @ factor.T).numpy()
    mean = units.to_data(model.mean.detach()).numpy()
    log_q = multivariate_normal(mean, covariance).logpdf(held.numpy())
    assert found["nll"] == pytest.approx(-log_q.mean(), abs=1e-6)
    assert found["nll_se"] == pytest.approx(log_q.std(ddof=1) / math.sqrt(4000))
    assert found["regret"] == pytest.approx(found["nll"] - truth.entropy)
    squares = (truth.log_prob(held).numpy() - log_q) ** 2
    assert found["log_density_mse"] == pytest.approx(squares.mean())
    precision, difference = np.linalg.inv(covariance), mean - 1.0
    kl = (0.25 * np.trace(precision) + difference @ precision @ difference - d
          - d * math.log(0.25) + np.linalg.slogdet(covariance)[1]) / 2  # fmt: skip
    if d == 2:
        assert found["kl"] == pytest.approx(kl, abs=1e-3)
        assert "kl_se" not in found
    else:
        assert 0 < found["kl_se"] < found["nll_se"] * 2  # type: ignore[operator]
        assert abs(found["kl"] - kl) < 4 * found["kl_se"]  # type: ignore[operator]


class WrongBowl(nn.Module):
    """||x||^2 / 2 in two dimensions, with a wrong log Z."""

    def __init__(self, error: float):
        super().__init__()
        self.error = error

    def forward(self, x):
        return x.square().sum(1) / 2

    def log_z(self, temperature: float):
        return torch.tensor(math.log(2 * math.pi * temperature) + self.error)


@pytest.mark.parametrize("width", [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("centre", [(0.1, 0.2), (0.0, 0.0)])
def test_the_grid_is_refined_until_half_of_it_agrees(width, tolerance, centre):
    """From cells of width 1; also where the energy is even about the centre of the region."""
    at = torch.tensor(centre).double()
    found = integrate_log_z(
        lambda u: ((u - at) / width).square().sum(1) / 2, CELLS_OF_1, 16, tolerance
    )
    assert found.resolution_error <= tolerance
    assert found.value == pytest.approx(math.log(2 * math.pi * width**2), abs=tolerance)


CELLS_OF_1 = Region(torch.full((2,), -8.0).double(), torch.full((2,), 8.0).double())


def test_a_half_that_agrees_by_chance_does_not_end_the_refinement():
    """The half that begins with the first points agrees to 1e-3, the others differ by up to 2, and
    log Z is wrong by 0.017: found among 20,000 pairs of modes."""
    modes = torch.tensor([[-0.05118296, -1.41269026], [1.28533892, 1.37172539]]).double()
    weights, width = torch.tensor([0.71239860, 0.28760140]).double(), 0.33629292

    def energy(u):
        distances = (u[:, None] - modes).square().sum(2) / (2 * width**2)
        return -torch.logsumexp(weights.log() - distances, 1)

    found = integrate_log_z(energy, CELLS_OF_1, 16, 1e-3)
    assert found.value == pytest.approx(math.log(2 * math.pi * width**2), abs=1e-3)


@pytest.mark.parametrize(("error", "value"), [(0.1, 1.9379), (-0.1, 1.7379)])
def test_a_wrong_log_z_of_the_model_gives_a_warning(error, value):
    x = torch.randn(500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    points = Points(x, x, standardization=fit_standardization(x, False))
    found, (warning,) = Quadrature(every=1, resolution=64)(make_input(WrongBowl(error), points))
    assert f"it is {value} by the model's own log_z and 1.8379 by quadrature" in warning
    assert found == {}


def test_a_needle_that_knows_its_log_z_needs_no_quadrature():
    """No grid and no tree of boxes without seeds resolves it."""

    class Needle(nn.Module):
        def forward(self, x):
            return ((x - 0.123) / 1e-9).square().sum(1) / 2

        def log_z(self, temperature: float):
            return torch.tensor(math.log(2 * math.pi * temperature) + 2 * math.log(1e-9)).double()

    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    points = Points(x, x, standardization=fit_standardization(x, False))
    model = Needle()
    found, _ = Quadrature(every=1, resolution=64)(make_input(model, points))
    assert found["log_z"] == pytest.approx(float(model.log_z(1.0)))


class Rbm(nn.Module):
    """E(v) = -a'v - sum_j softplus(b_j + v'W_j) over v in {0, 1}^d: hidden units summed out."""

    def __init__(self, d: int, hidden: int):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.a = nn.Parameter(torch.randn(d, generator=g))
        self.b = nn.Parameter(torch.randn(hidden, generator=g))
        self.w = nn.Parameter(torch.randn(d, hidden, generator=g))

    def forward(self, v):
        return -v @ self.a - nn.functional.softplus(self.b + v @ self.w).sum(1)

    def log_z(self, temperature: float):
        return (-self(states(len(self.a)).to(self.a)) / temperature).logsumexp(0)


def states(d: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=d)), dtype=torch.float64)


class Table:
    """A distribution over {0, 1}^d by its 2^d probabilities."""

    modes = None

    def __init__(self, probabilities: torch.Tensor, d: int):
        self.p, self.d = probabilities, d

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        rows = torch.multinomial(self.p, count, replacement=True, generator=generator)
        return states(self.d)[rows]

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        powers = 2 ** torch.arange(self.d - 1, -1, -1)
        return self.p.log()[(x.long() * powers).sum(1)]

    @property
    def entropy(self) -> float:
        return -float((self.p * self.p.log()).sum())


def test_an_energy_over_a_countable_space():
    d, g = 6, torch.Generator().manual_seed(2)
    truth = Table(torch.softmax(torch.randn(2**d, generator=g, dtype=torch.float64), 0), d)
    held = truth.sample(3000, g)
    units = Standardization(torch.zeros(d).double(), torch.ones(d).double())
    points = Points(truth.sample(100, g), held, standardization=units, truth=truth)  # type: ignore
    rbm = Rbm(d, 4)
    found, warnings = Quadrature(every=1)(make_input(rbm, points, temperature=2.0))
    assert warnings == []
    # By a sum over visible and hidden states, nothing of the above.
    exact = rbm.double()
    v, h = states(d), states(4)
    joint = (v @ exact.a)[:, None] + (h @ exact.b)[None] + v @ exact.w @ h.T
    log_q = torch.log_softmax(joint.logsumexp(1) / 2.0, 0).detach()
    rows = (held.long() * 2 ** torch.arange(d - 1, -1, -1)).sum(1)
    assert found["nll"] == pytest.approx(-float(log_q[rows].mean()), abs=1e-6)
    kl = float((truth.p * (truth.p.log() - log_q)).sum())
    assert abs(found["kl"] - kl) < 4 * found["kl_se"]  # type: ignore[operator]
    assert found["regret"] == pytest.approx(found["nll"] - truth.entropy)  # type: ignore[operator]


@pytest.mark.usefixtures("no_pictures")
def test_ten_dimensions_have_an_exact_nll_and_ais(command, folder, tiny_file):
    x = np.random.default_rng(0).normal(size=(600, 10)) * 3 + 5
    np.savetxt(folder / "x.csv", x, delimiter=",")
    words = [w for w in tiny_file if not w.startswith("model.")]
    chosen = ("model=gaussian", "method=dsm", "dataset=file", "dataset.path=x.csv")
    words = [w for w in words if not w.startswith("method.")]
    outcome = command(*words, *chosen, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert "NLL " in outcome.out
    assert "quadrature ends" not in outcome.out
    numbers = json.loads((folder / "run/result.json").read_text())["metrics"]
    assert math.isfinite(numbers["nll"])
    few = ("evaluation.chains=200", "evaluation.temperatures=60", "evaluation.pilot_chains=100")
    outcome = command("evaluate", "run", "evaluation=ais", *few)
    assert outcome.code == 0, outcome.err
    found = json.loads((folder / "run/evaluation.json").read_text())["metrics"]
    assert found["log_z_exact"] == pytest.approx(numbers["log_z"], abs=1e-5)
    assert found["log_z"] == pytest.approx(numbers["log_z"], abs=max(0.05, 4 * found["log_z_se"]))


def test_an_estimate_far_from_the_exact_log_z_gives_a_warning():
    words = ("evaluation=ais", "evaluation.chains=50", "evaluation.pilot_chains=50",
             "evaluation.temperatures=10", "model=harmonic", "train.steps=0",
             "samples.burn_in=50")  # fmt: skip
    experiment = build(presets.to_plain(presets.compose_config([*words])))
    right = experiment.evaluators["evaluation"](evaluation_input(experiment, experiment.energy, {}))
    assert not any("estimated wrongly" in w for w in right.warnings)
    honest = type(experiment.energy).log_z
    experiment.energy.log_z = lambda t: honest(experiment.energy, t) + 3.0  # type: ignore
    wrong = experiment.evaluators["evaluation"](evaluation_input(experiment, experiment.energy, {}))
    assert any("3 nats from the model's own log_z" in w for w in wrong.warnings)
