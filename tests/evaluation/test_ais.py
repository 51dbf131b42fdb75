"""Annealed importance sampling on energies whose log Z is known."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pytest
import torch
from repeats import seeded
from torch import Tensor, nn

from ebmtrain.config import presets
from ebmtrain.config.instantiate import instantiate_part
from ebmtrain.datasets.gaussian_mixture import GaussianMixture
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.datasets.support import REAL
from ebmtrain.errors import ConfigError
from ebmtrain.evaluation.ais import AnnealedImportanceSampling, LogWeights
from ebmtrain.evaluation.estimators import annealing
from ebmtrain.evaluation.estimators.annealing import (
    AnnealingSchedule,
    GeometricPath,
    _next_beta_step,
    adaptive_schedule,
    anneal,
    bennett_log_z,
    refine_schedule,
    reversed_schedule,
)
from ebmtrain.evaluation.exact import Quadrature
from ebmtrain.evaluation.protocol import EvaluationInput
from ebmtrain.models.gaussian_mixture import GaussianMixture as MixtureEnergy
from ebmtrain.samplers.hmc import Hmc
from ebmtrain.samplers.mala import Mala
from ebmtrain.samplers.resampling import effective_sample_size, log_mean_exp
from ebmtrain.types import Region, StepInfo

D = 4
CENTRES = [[2.0, 0.0, 0.0, 1.0], [-2.0, 1.0, 0.0, 0.0], [0.0, -2.0, 2.0, 0.0]]
WEIGHTS = [0.5, 0.3, 0.2]
OFFSET = 7.0


def unused_trace(*_):
    raise AssertionError("records no chains")


class Shifted(nn.Module):
    """E = OFFSET - T log p, so that log Z of exp(-E / T) is -OFFSET / T."""

    def __init__(self, truth, standard, temperature=1.0):
        super().__init__()
        self.truth, self.standard, self.temperature = truth, standard, temperature

    def forward(self, u):
        return OFFSET - self.temperature * self.truth.log_prob(self.standard.to_data(u))


def perfect_input(truth, *, temperature=1.0, heat=1.0, holdout=None, seed=0) -> EvaluationInput:
    """A model equal to the truth, in other units; its own samples are `heat` times too wide about
    each mode.
    """
    g = seeded(100 + seed)
    x = 3 * truth.sample(1000, g) + 50
    standard = fit_standardization(x, True)
    own = replace(truth, std=3 * truth.std,
                  centres=[[3 * c + 50 for c in centre] for centre in truth.centres])  # fmt: skip
    source = replace(own, std=heat * own.std)
    u = standard.to_standard(x)
    held = own.sample(1000, g) if holdout is None else holdout(own)
    return EvaluationInput(
        energy=Shifted(own, standard, temperature),
        temperature=temperature,
        region=Region(u.amin(0), u.amax(0)),
        standardization=standard,
        dataset=Points(x, held, standardization=standard, truth=own),
        draw=lambda n: standard.to_standard(source.sample(n, g)),
        sampler=Mala(step_size=0.1),
        method={},
        trace=unused_trace,
        generator=lambda purpose: seeded(seed + sum(map(ord, purpose))),
    )


MIXTURE = GaussianMixture(centres=CENTRES, std=0.6, weights=WEIGHTS)


@pytest.fixture
def ais():

    def made_with(*words):
        fewer = ("evaluation.chains=400", "evaluation.temperatures=60",
                 "evaluation.pilot_chains=300", "evaluation.bootstrap=300")  # fmt: skip
        return instantiate_part(
            presets.to_plain(presets.compose_config(["evaluation=ais", *fewer, *words])),
            "evaluation",
        )

    return made_with


def make_path(target=MIXTURE):
    energy = MixtureEnergy(centres=target.centres, weights=target.weights, std=target.std).double()
    base = REAL.base(target.sample(2000, seeded(3)))
    return base, lambda beta: GeometricPath(
        beta=beta, base=base, energy=energy, temperature=1.0, shape=(D,)
    )


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_path_energy_and_gradient(beta):
    """(1 - beta) times the base, -log N(u; mean, C) + log |du/dz|, and beta times E(u) / T.
    Rejection would correct for a wrong gradient, at the cost of time only.
    """
    base, path = make_path()
    here = replace(path(beta), temperature=1.7)
    z = torch.randn(20, D, dtype=torch.float64, generator=seeded(5)).requires_grad_()
    u = base.unwhiten(z)
    gaussian = torch.distributions.MultivariateNormal(base.mean, scale_tril=base.factor)
    density = gaussian.log_prob(u) + base.log_volume
    expected = -(1 - beta) * density + beta * here.energy(u) / 1.7
    energy, slope = here.energy_and_gradient(z.detach())
    torch.testing.assert_close(energy, expected)
    torch.testing.assert_close(here(z.detach()), expected)
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), z)[0])
    torch.testing.assert_close(base.whiten(u), z)


@pytest.mark.parametrize("kernel", [Hmc(step_size=0.3), Mala(step_size=0.05)])
def test_weights_are_unbiased_for_any_schedule(kernel):
    """E[w] = Z of the target over z, forward from the base and in reverse from the target, with a
    schedule that is far too short.
    """
    base, path = make_path()
    ladder = AnnealingSchedule([0.0, 0.3, 0.7, 1.0], [0.0, kernel.step_size, kernel.step_size, 0.1])
    g, n = seeded(1), 20_000
    up = anneal(path, torch.randn(n, D, dtype=torch.float64, generator=g), ladder, kernel, 2, g)
    w = (up + base.log_volume).exp()
    assert w.std() > 0.3  # the ladder is short: the weights have work to do
    assert float(w.mean()) == pytest.approx(1, abs=4 * float(w.std()) / math.sqrt(n))
    start = base.whiten(MIXTURE.sample(n, g))
    down = anneal(path, start, reversed_schedule(ladder), kernel, 2, g)
    v = (down - base.log_volume).exp()
    assert v.std() > 0.3
    assert float(v.mean()) == pytest.approx(1, abs=4 * float(v.std()) / math.sqrt(n))


def test_adaptive_schedule_keeps_the_requested_ess():
    """Between its temperatures independent chains keep the requested fraction, and it is finer
    where the energy changes more.
    """
    _, path = make_path()
    kernel = Hmc(step_size=0.3, adaptation=None)
    g = seeded(2)
    z = torch.randn(2000, D, dtype=torch.float64, generator=g)
    ladder = adaptive_schedule(path, z, kernel, 0.8, g)
    assert ladder.betas[0] == 0 and ladder.betas[-1] == 1  # noqa: PT018
    assert 4 < len(ladder.betas) < 40
    step = ladder.betas[1]
    rise = path(1.0)(z) - path(0.0)(z)  # z is still of the base
    assert torch.allclose(path(0.5).log_ratio(z), -rise)
    assert effective_sample_size(-step * rise) / len(z) == pytest.approx(0.8, abs=0.02)
    twice = refine_schedule(ladder, 2 * (len(ladder.betas) - 1))
    assert twice.betas[::2] == pytest.approx(ladder.betas)
    assert twice.betas[1] == pytest.approx(step / 2)


class _PathPoint(NamedTuple):
    x: Tensor


@dataclass(frozen=True)
class _RecordingKernel:
    """A kernel that does not move and records beta and its step size."""

    seen: list[tuple[float, float]] = field(default_factory=list)
    step_size: float = 0.0
    adaptation: Any = None

    def init(self, energy, x):
        return _PathPoint(x)

    def step(self, energy, state, generator):
        self.seen.append((energy.beta, self.step_size))
        return state, StepInfo()


def test_each_temperature_has_its_step_size_in_both_directions():
    _, path = make_path()
    ladder, z = (
        AnnealingSchedule([0.0, 0.2, 0.7, 1.0], [0.1, 0.2, 0.3, 0.4]),
        torch.zeros(2, D).double(),
    )
    up, down = _RecordingKernel(), _RecordingKernel()
    anneal(path, z, ladder, up, 1, seeded(0))
    anneal(path, z, reversed_schedule(ladder), down, 1, seeded(0))
    assert up.seen == [(0.2, 0.2), (0.7, 0.3), (1.0, 0.4)]
    assert down.seen == [(0.7, 0.3), (0.2, 0.2), (0.0, 0.1)]


def test_refined_step_sizes_are_geometric_means():
    ladder = AnnealingSchedule([0.0, 0.3, 1.0], [0.1, 0.4, 1.6])
    finer = refine_schedule(ladder, 8)
    assert finer.betas == pytest.approx([0, 0.075, 0.15, 0.225, 0.3, 0.475, 0.65, 0.825, 1])
    assert finer.step_sizes == pytest.approx([0.1 * 4 ** (k / 4) for k in range(9)])


def test_base_of_few_points_is_nondegenerate():
    """The covariance plus a thousandth of its mean variance: three collinear points in four
    dimensions have a density too.
    """
    line = torch.tensor([[1.0], [2.0], [6.0]]).double() * torch.tensor([1.0, -1, 2, 0])
    base = REAL.base(line + 5)
    covariance = line.T.cov()
    expected = covariance + 1e-3 * covariance.diagonal().mean() * torch.eye(D)
    torch.testing.assert_close(base.factor @ base.factor.T, expected)
    torch.testing.assert_close(base.mean, line.mean(0) + 5)


def test_resampled_pilot_chains_have_equal_weights(monkeypatch):
    seen = []
    monkeypatch.setattr(
        annealing, "_next_beta_step", lambda w, *rest: seen.append(w) or _next_beta_step(w, *rest)
    )
    _, path = make_path(replace(MIXTURE, std=0.1))
    z = torch.randn(500, D, dtype=torch.float64, generator=seeded(2))
    adaptive_schedule(path, z, Hmc(step_size=0.1), 0.8, seeded(3))
    alike = [not w.any() for w in seen]
    assert alike[0]
    assert 1 < sum(alike) < len(alike)


def test_next_beta_step_accounts_for_current_weights():
    """(sum W v)^2 / sum W v^2 at the step found, for unequal W."""
    log_w, fall = (s * torch.randn(500, generator=seeded(i)).double() for i, s in ((1, 2), (2, 9)))
    step = _next_beta_step(log_w, fall, 1.0, 0.7)
    assert 0 < step < 1
    weights, v = log_w.softmax(0), (step * fall).exp()
    assert float((weights @ v) ** 2 / (weights @ v**2)) == pytest.approx(0.7, abs=1e-6)


def test_each_bound_has_the_confidence():
    """80 % is 0.8416 standard errors below the forward side, and above the reverse one, by the
    normal approximation; a quantile of n resamplings is accurate to 0.4 / (0.28 sqrt(n)) of one.
    Mean weights of 0.95 leave a gap, so that the bounds keep their order.
    """
    n, g = 4_000, seeded(1)
    check = AnnealedImportanceSampling(
        every=1, kernel=Hmc(step_size=0.3), bootstrap=n, confidence=0.8
    )
    up, down = 0.3 * torch.randn(2, 2_000, generator=g, dtype=torch.float64) - 0.1
    found, _ = check.summarize(LogWeights(up, down, unused_trace), g)
    for side, end in ((up, found["log_z_lower"]), (down, -found["log_z_upper"])):
        weights = side.exp()
        error = float(weights.std() / weights.mean()) / math.sqrt(len(side))
        assert (float(log_mean_exp(side)) - end) / error == pytest.approx(
            0.8416, abs=4 * 0.4 / (0.28 * math.sqrt(n)) + 0.02
        )


def test_standard_error_is_at_least_half_of_the_gap():
    """A gap of 0.04 nats, with a bootstrap error of 5e-5."""
    g = seeded(1)
    check = AnnealedImportanceSampling(every=1, kernel=Hmc(step_size=0.3))
    up, down = 0.001 * torch.randn(2, 500, generator=g, dtype=torch.float64) - 0.02
    for sign in (1, -1):  # forward below reverse, and above
        found, _ = check.summarize(LogWeights(sign * up, sign * down, unused_trace), g)
        gap = abs(float(log_mean_exp(sign * up) + log_mean_exp(sign * down)))
        assert gap == pytest.approx(0.04, abs=0.001)
        assert found["log_z_se"] == pytest.approx(gap / 2)


@pytest.mark.parametrize("swapped", [False, True])
def test_gap_warning_uses_the_errors_of_both_sides(swapped):
    """One side is exact, the error of the other is sqrt((e - 1) / 400) = 0.066: a gap of 0.15 nats
    may be chance, one of 0.5 may not.
    """
    check = AnnealedImportanceSampling(every=1, kernel=Hmc(step_size=0.3))
    noise = torch.randn(400, generator=seeded(7), dtype=torch.float64)
    sure, unsure = torch.zeros_like(noise), noise - log_mean_exp(noise)
    for gap, complaints in ((0.15, 0), (0.5, 1)):
        up, down = (unsure, sure) if swapped else (sure, unsure)
        _, warnings = check.summarize(LogWeights(up, down - gap, unused_trace), seeded(1))
        assert len(warnings) == complaints


@pytest.mark.parametrize("name", ["ess", "ess_reverse"])
def test_collapsed_weights_of_either_side_leave_log_z_out(name):
    """One chain has all of the weight of its side, and the estimates of both sides agree."""
    check = AnnealedImportanceSampling(every=1, chains=400, kernel=Hmc(step_size=0.3))
    even, collapsed = torch.zeros(2, 400, dtype=torch.float64)
    collapsed[0] = 50
    collapsed = collapsed - log_mean_exp(collapsed)
    up, down = (collapsed, even) if name == "ess" else (even, collapsed)
    found, warnings = check.summarize(LogWeights(up, down, unused_trace), seeded(1))
    assert "log_z" not in found
    assert any(f"{name} is 1.0 of 400 chains" in line for line in warnings)


def test_bennett_combines_both_sides():
    """Normal log weights, which satisfy Crooks' relation: f ~ N(L - s^2/2, s^2), r ~ N(-L - s^2/2,
    s^2). Each side alone is biased, the combined estimate is not.
    """
    g, s, n = seeded(4), 3.0, 4000
    noise = torch.randn(50, 2, n, dtype=torch.float64, generator=g)
    up, down = 5 - s**2 / 2 + s * noise[:, 0], -5 - s**2 / 2 + s * noise[:, 1]
    joined = bennett_log_z(up, down[:, : n // 2])
    error = float(joined.std()) / math.sqrt(50)
    assert float(joined.mean()) == pytest.approx(5, abs=4 * error)
    assert error < float(log_mean_exp(up).std()) / math.sqrt(50)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_bounds_contain_log_z_in_the_units_of_the_data(ais, temperature):
    inputs = perfect_input(MIXTURE, temperature=temperature)
    found, warnings = ais()(inputs)
    assert warnings == []
    held = inputs.dataset.truth.log_prob(inputs.dataset.holdout)
    of_mean = float(held.std()) / math.sqrt(len(held))
    assert found["nll_se"] == pytest.approx(math.hypot(of_mean, found["log_z_se"]))
    assert found["log_z_lower"] < -OFFSET / temperature < found["log_z_upper"]
    assert found["log_z_upper"] - found["log_z_lower"] < 0.3
    assert found["log_z"] == pytest.approx(-OFFSET / temperature, abs=4 * found["log_z_se"])
    assert found["nll_lower"] < found["nll"] < found["nll_upper"]
    assert abs(found["regret"]) < 4 * found["nll_se"]
    assert 100 < found["ess"] <= 400


def test_too_short_a_schedule_gives_warnings(ais):
    """Two steps: the two sides are far apart, and the truth is between them."""
    short = ais("evaluation.temperatures=1", "evaluation.pilot_ess=0.0001")
    narrow = replace(MIXTURE, std=0.1)
    found, warnings = short(perfect_input(narrow))
    assert any("is" in w and "raise evaluation.temperatures" in w for w in warnings)
    assert found["log_z_upper"] - found["log_z_lower"] > 0.2
    assert found["log_z_lower"] < -OFFSET < found["log_z_upper"]
    assert {"log_z", "log_z_se", "nll", "nll_se", "regret"}.isdisjoint(found)


def test_wrong_reverse_starts_give_a_warning(ais):
    """Samples that are too hot put the reverse side below the forward side, which is impossible for
    samples of the model. (A missing mode would not: log Z can be estimated from each mode alone.)
    """
    found, warnings = ais("evaluation.temperatures=10")(perfect_input(MIXTURE, heat=3.0))
    assert any("not from the model" in warning for warning in warnings)
    assert found["log_z_lower"] < -OFFSET < found["log_z_upper"]


def points_at_a_mode(truth):
    return torch.tensor(truth.centres[:1], dtype=torch.float64).expand(500, -1).clone()


def test_nll_below_the_entropy_gives_a_warning_and_no_regret(ais):
    """All held-out points are at a mode: a mean of -log p that no model can have."""
    found, warnings = ais()(perfect_input(MIXTURE, holdout=points_at_a_mode))
    assert "below the entropy" in warnings[-1]
    assert {"regret", "nll", "log_z", "nll_lower", "nll_upper"}.isdisjoint(found)
    flat = GaussianMixture(centres=[c[:2] for c in CENTRES], std=0.6, weights=WEIGHTS)
    exact, warnings = Quadrature(every=1, resolution=64)(
        perfect_input(flat, holdout=points_at_a_mode)
    )
    assert "below the entropy" in warnings[-1]
    assert {"kl", "regret", "nll", "log_z", "mode_weights"}.isdisjoint(exact)
    assert "entropy" in exact


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluation.kernel.clamp=3"], "breaks exactness"),
        (["evaluation.kernel.temperature=2"], "must be 1"),
        (["+evaluation.kernel.step_size_end=0.1"], "must be null"),
    ],
)
def test_inexact_kernels_are_refused(ais, words, said):
    with pytest.raises(ConfigError, match=said):
        ais(*(f"+{word}" for word in words))


def test_langevin_is_refused():
    from ebmtrain.samplers.langevin import Langevin

    with pytest.raises(ValueError, match="choose hmc or mala"):
        AnnealedImportanceSampling(every=1, kernel=Langevin(step_size=0.1))


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_evaluate_with_another_evaluation_than_that_of_the_run(command, folder, tiny):
    assert command(*tiny, "evaluation.tolerance=1e-3", "hydra.run.dir=run").code == 0
    own = json.loads((folder / "run/result.json").read_text())["metrics"]
    words = ("evaluation.chains=100", "evaluation.temperatures=20", "evaluation=ais")
    outcome = command("evaluate", "run", *words)
    assert outcome.code == 0, outcome.err
    found = json.loads((folder / "run/evaluation.json").read_text())["metrics"]
    assert {"nll_lower", "nll_upper", "log_z_lower", "log_z_upper", "ess"} <= set(found)
    assert found["log_z"] == pytest.approx(own["log_z"], abs=max(0.05, 4 * found["log_z_se"]))
    assert found["nll"] == pytest.approx(own["nll"], abs=max(0.05, 4 * found["log_z_se"]))
    assert "did you mean ais?" in command("evaluate", "run", "evaluation=aiss").err
    assert "unknown key" in command("evaluate", "run", "evaluation.chains=100").err


def test_the_ladder_is_at_least_that_of_the_pilot(ais):
    """With one step asked for, those that the pilot chose still resolve a narrow model."""
    one = ais("evaluation.temperatures=1", "evaluation.pilot_ess=0.99")
    found, warnings = one(perfect_input(replace(MIXTURE, std=0.4)))
    assert warnings == []
    assert abs(found["log_z"] + OFFSET) < 4 * found["log_z_se"]
    assert found["ess"] > 100


def test_chains_of_ais_make_no_jumps(ais):
    """Their weights would not be independent."""
    few = ("evaluation.chains=50", "evaluation.temperatures=10", "evaluation.pilot_chains=50")
    kernel = (
        "evaluation.kernel._target_=ebmtrain.samplers.mala.Mala",
        "~evaluation.kernel.n_leapfrog",
    )
    jumps = ("+evaluation.kernel.jumps={_target_: ebmtrain.samplers.jumps.DifferentialEvolution,"
             " every: 1}",)  # fmt: skip
    plain, jumping = (
        ais(*few, *kernel, *more).bidirectional_ais(perfect_input(MIXTURE)) for more in ((), jumps)
    )
    assert torch.equal(plain.forward, jumping.forward)
    assert torch.equal(plain.reverse, jumping.reverse)


def test_the_base_is_fitted_to_the_data(ais):
    """The forward side knows nothing of the samples of the model, however wide they are."""
    few = ("evaluation.chains=50", "evaluation.temperatures=10", "evaluation.pilot_chains=50")
    narrow, wide = (
        ais(*few).bidirectional_ais(perfect_input(MIXTURE, heat=heat)) for heat in (1.0, 2.0)
    )
    assert torch.equal(narrow.forward, wide.forward)
    assert not torch.equal(narrow.reverse, wide.reverse)


def test_each_end_of_the_interval_is_of_its_own_side():
    """Exact weights of one side: its end is its value, whatever the other side is."""
    check = AnnealedImportanceSampling(every=1, kernel=Hmc(step_size=0.3))
    noise = 0.1 * torch.randn(400, generator=seeded(3), dtype=torch.float64)
    noise = noise - log_mean_exp(noise)
    sure = torch.zeros_like(noise)
    below, _ = check.summarize(LogWeights(sure - 0.01, noise - 0.01, unused_trace), seeded(1))
    assert below["log_z_lower"] == pytest.approx(-0.01)
    assert below["log_z_upper"] > 0.015
    above, _ = check.summarize(LogWeights(noise - 0.01, sure - 0.01, unused_trace), seeded(1))
    assert above["log_z_upper"] == pytest.approx(0.01)
    assert above["log_z_lower"] < -0.015
