"""`ebmtrain verify` passes correct parts and detects common errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.evaluation.properties.energies import check_energy
from ebmtrain.evaluation.properties.methods import _check_optimum, check_method
from ebmtrain.evaluation.properties.samplers import check_sampler
from ebmtrain.methods.contrastive_divergence import ContrastiveDivergence
from ebmtrain.methods.denoising_score_matching import DenoisingScoreMatching
from ebmtrain.methods.persistent_contrastive_divergence import PersistentContrastiveDivergence
from ebmtrain.methods.score_matching import ScoreMatching
from ebmtrain.runs.evaluate import check_properties
from ebmtrain.samplers.langevin import Langevin, LangevinState
from ebmtrain.samplers.mala import Mala
from ebmtrain.samplers.metropolis import accept_mask, choose
from ebmtrain.score import energy_and_gradient, score
from ebmtrain.types import LossOutput, StepInfo

CONFIGS = Path(__file__).parents[3] / "configs"
METHODS = sorted(p.stem for p in (CONFIGS / "method").glob("*.yaml"))
SAMPLERS = sorted(p.stem for p in (CONFIGS / "sampler").glob("*.yaml"))


STATE_SAMPLERS = ("block_gibbs", "gibbs", "gwg")


def points(n: int = 64):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(1))


def broken(findings) -> list[str]:
    return [finding.name for finding in findings if finding.holds is False]


def small(configured, *words: str):
    if "model=rbm" in words:
        return build(presets.to_plain(presets.compose_config(list(words))))
    points = [] if "dataset=iris" in words else ["dataset.n_train=2000"]
    return build(configured("model.width=16", "model.fourier_features=0", *points, *words))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_built_in_methods_pass(configured, method):
    words = [f"method={method}"]
    if method == "multi_dsm":
        words += ["model=noise_conditional_mlp"]
    if method == "pseudo_likelihood":
        words += ["dataset=ising_samples", "dataset.side=3", "sampler=gibbs"]
    if method == "jem":
        words += ["dataset=iris", "model.classes=3", "method.slots=512"]
    findings = list(check_properties(small(configured, *words)))
    assert broken(findings) == [], findings
    conditional = method in ("dual", "multi_dsm")  # not applicable: the optimum of a fixed energy
    assert sum(f.holds is True for f in findings) >= 8 - conditional


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_built_in_samplers_pass(configured, sampler):
    data = ("model=rbm", "dataset=bars_and_stripes") if sampler in STATE_SAMPLERS else ()
    experiment = small(configured, f"sampler={sampler}", "method=cd", *data)
    if data:
        x = (points(9).new_ones(16, 9).cumsum(0) % 2).view(-1, 3, 3)
        findings = list(check_sampler(experiment.sampler, experiment.energy, x))
        assert [f.holds for f in findings] == [True, True], findings
        return
    findings = list(check_sampler(experiment.sampler, experiment.energy, points()))
    assert [f.holds for f in findings] == [True, True], findings


@pytest.mark.slow
def test_the_command(command):
    outcome = command("verify", "model.width=8", "dataset.n_train=600")
    assert outcome.code == 0, outcome
    assert outcome.out.count("pass  ") == 9
    assert outcome.out.endswith("all properties hold\n")


def test_a_landscape_has_no_method_to_check(command):
    outcome = command("verify", "model=double_well", "train.steps=0")
    assert outcome.code == 0, outcome
    assert outcome.out.count("pass  ") == 5


# Energies


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x):
        return self.net(x).squeeze(1)


class Leaks(Net):
    def forward(self, x):
        return self.net((x - x.mean(0)) / x.std(0)).squeeze(1)


class Drops(Net):
    def forward(self, x):
        return nn.functional.dropout(self.net(x).squeeze(1), 0.5, self.training)


class WrongFactor(Net):
    def energy_and_gradient(self, x):
        e, g = energy_and_gradient(self.forward, x)
        return e, 2 * g


class WrongEnergy(Net):
    def energy_and_gradient(self, x):
        e, g = energy_and_gradient(self.forward, x)
        return e + x.flatten(1).square().sum(1) / 2, g


@pytest.mark.parametrize(
    ("energy", "law"),
    [
        (Leaks, "energies do not leak across the batch"),
        (Drops, "energies do not leak across the batch"),
        (WrongFactor, "score is the gradient"),
        (WrongEnergy, "chains see the energy itself"),
    ],
)
def test_errors_of_an_energy_are_caught(energy, law):
    assert law in broken(check_energy(energy(), points()))
    assert broken(check_energy(Net(), points())) == []


# Samplers


@dataclass(frozen=True, kw_only=True)
class HalfNoise(Langevin):
    """sqrt(eta) in place of sqrt(2 eta)."""

    def step(self, energy, state, generator):
        _, g = energy_and_gradient(energy, state.x)
        noise = torch.empty_like(state.x).normal_(generator=generator)
        x = state.x - self.step_size * g + self.step_size**0.5 * noise
        return LangevinState(x, state.index + 1), StepInfo()


@dataclass(frozen=True, kw_only=True)
class MeanGradient(Langevin):
    """The gradient of the mean energy: a drift that depends on the batch."""

    def step(self, energy, state, generator):
        _, g = energy_and_gradient(energy, state.x)
        noise = torch.empty_like(state.x).normal_(generator=generator)
        x = state.x - self.step_size * g / len(g) + (2 * self.step_size) ** 0.5 * noise
        return LangevinState(x, state.index + 1), StepInfo()


@dataclass(frozen=True, kw_only=True)
class NoRatio(Mala):
    """Metropolis without the proposal's ratio."""

    def step(self, energy, state, generator):
        noise = torch.empty_like(state.x).normal_(generator=generator)
        x = state.x - self.step_size * state.gradient + (2 * self.step_size) ** 0.5 * noise
        e, g = energy_and_gradient(energy, x)
        accept = accept_mask(state.energy - e, generator)
        new = state._replace(
            x=choose(accept, x, state.x), energy=choose(accept, e, state.energy),
            gradient=choose(accept, g, state.gradient),
        )  # fmt: skip
        return new, StepInfo((state.energy - e).clamp(max=0).exp())


@dataclass(frozen=True, kw_only=True)
class StaleEnergy(Mala):
    """The cached energy does not follow the point."""

    def step(self, energy, state, generator):
        new, info = super().step(energy, state, generator)
        return new._replace(energy=state.energy), info


@dataclass(frozen=True, kw_only=True)
class MovesItsStart(Langevin):
    def step(self, energy, state, generator):
        new, info = super().step(energy, state, generator)
        state.x.copy_(new.x)
        return new, info


@dataclass(frozen=True, kw_only=True)
class Drifts(Mala):
    """Every step ends a little to one side: the variance stays."""

    def step(self, energy, state, generator):
        new, info = super().step(energy, state, generator)
        return self.init(energy, new.x + 0.02), info


STATIONARY = "sampler is stationary on a Gaussian"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "law"),
    [
        (HalfNoise(step_size=0.05), STATIONARY),
        (MeanGradient(step_size=0.05), STATIONARY),
        (NoRatio(step_size=0.05), STATIONARY),
        (StaleEnergy(step_size=0.05), STATIONARY),
        (Drifts(step_size=0.05), STATIONARY),
        (MovesItsStart(step_size=0.05), "chains do not change the model"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
def test_errors_of_a_sampler_are_caught(sampler, law):
    assert law in broken(check_sampler(sampler, Net(), points()))


@pytest.mark.slow
def test_correct_samplers_pass_with_other_steps_and_temperatures():
    for sampler in (
        Langevin(step_size=0.05, temperature=0.5),
        Mala(step_size=0.3, temperature=3.0),
    ):
        assert broken(check_sampler(sampler, Net(), points())) == []


# Methods


class NoTrace(ScoreMatching):
    """A common error: E[ ||s||^2 ] / 2 alone."""

    def loss(self, energy, batch, state, generator):
        s = score(energy, batch.x)
        return LossOutput(s.flatten(1).square().sum(1).mean() / 2, {}, state)


@dataclass(frozen=True, kw_only=True)
class WrongSign(DenoisingScoreMatching):
    def loss(self, energy, batch, state, generator):
        xi = torch.empty_like(batch.x).normal_(generator=generator)
        s = score(energy, batch.x + self.sigma * xi)
        return LossOutput((self.sigma * s - xi).square().sum(1).mean() / 2, {}, state)


class DoubleTrace(ScoreMatching):
    def loss(self, energy, batch, state, generator):
        out = super().loss(energy, batch, state, generator)
        s = score(energy, batch.x)
        return out._replace(loss=2 * out.loss - s.square().sum(1).mean() / 2)


class Swapped(ContrastiveDivergence):
    """The energy of negatives is decreased and that of data increased."""

    def loss(self, energy, batch, state, generator):
        out = super().loss(energy, batch, state, generator)
        return out._replace(loss=-out.loss)


class InPlace(ScoreMatching):
    def loss(self, energy, batch, state, generator):
        out = super().loss(energy, batch, state, generator)
        batch.x.mul_(0.5)
        return out


class GlobalNoise(ScoreMatching):
    def loss(self, energy, batch, state, generator):
        noised = batch._replace(x=batch.x + 0.01 * torch.randn_like(batch.x))
        return super().loss(energy, noised, state, generator)


class DrawsFromTheGlobalGenerator(ScoreMatching):
    """The loss is the same: only the numbers of others change."""

    def loss(self, energy, batch, state, generator):
        torch.rand(())
        return super().loss(energy, batch, state, generator)


class ChangesTheOldState(ScoreMatching):
    def init(self, x, generator):
        return {"count": torch.zeros(())}

    def loss(self, energy, batch, state, generator):
        out = super().loss(energy, batch, state, generator)
        return out._replace(state={"count": state["count"].add_(1)})


class Attached(ScoreMatching):
    def init(self, x, generator):
        return {"last": torch.zeros(())}

    def loss(self, energy, batch, state, generator):
        out = super().loss(energy, batch, state, generator)
        return out._replace(state={"last": out.loss})


class Detached(ScoreMatching):
    def loss(self, energy, batch, state, generator):
        out = super().loss(energy, batch, state, generator)
        return out._replace(loss=out.loss.detach().requires_grad_())


OPTIMUM = "loss has its optimum where it should"
ALONE = "loss depends on its arguments alone and changes none"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "law"),
    [
        (NoTrace(), OPTIMUM),
        (WrongSign(sigma=0.3), OPTIMUM),
        (DoubleTrace(), OPTIMUM),
        (Swapped(sampler=Mala(step_size=0.1)), OPTIMUM),
        (InPlace(), ALONE),
        (GlobalNoise(), ALONE),
        (DrawsFromTheGlobalGenerator(), ALONE),
        (ChangesTheOldState(), ALONE),
        (Attached(), "state can be saved and resumed"),
        (Detached(), "loss is finite and moves the parameters"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
def test_errors_of_a_method_are_caught(method, law):
    with torch.random.fork_rng():
        assert law in broken(check_method(method, Net(), points(600)))


def test_an_inapplicable_property_is_no_failure():
    class NeedsSigma(ScoreMatching):
        def loss(self, energy, batch, state, generator):
            return super().loss(lambda x: energy(x, sigma=0.1), batch, state, generator)

    class Told(Net):
        def forward(self, x, sigma=1.0):
            return super().forward(x) / sigma

    findings = list(check_method(NeedsSigma(), Told(), points(600)))
    assert findings[0].holds is None
    assert broken(findings) == []


def test_an_energy_with_infinite_values_fails():
    class Nan(Net):
        def forward(self, x):
            return super().forward(x) * math.nan

    assert "score is the gradient" in broken(check_energy(Nan(), points()))


@pytest.mark.slow
def test_short_chains_with_regularization_are_distinguished_from_a_wrong_loss():
    """k = 1 step of 0.001 changes the variance by 0.08 %: regularization dominates the slope."""
    method = ContrastiveDivergence(
        sampler=Langevin(step_size=0.001), k=1, energy_regularization=0.1
    )
    (finding,) = _check_optimum(method, 64)
    assert finding.holds is False
    assert "raise method.k or sampler.step_size" in finding.observed
    wrong = WrongSign(sigma=0.5)
    (finding,) = _check_optimum(wrong, 64)
    assert finding.holds is False
    assert "raise" not in finding.observed


@pytest.mark.slow
def test_slow_chains_reach_stationarity_first():
    """Persistent chains from far away: at first the slope is that of a model that is too wide."""
    method = PersistentContrastiveDivergence(
        sampler=Langevin(step_size=0.05), k=1, slots=512, noise_std=4.0, energy_regularization=0.0
    )
    (finding,) = _check_optimum(method, 64)
    assert finding.holds, finding.observed
