"""Sequences made from known laws, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from ebmtrain.datasets.distributions import LogNormal, Uniform
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.sine_waves import sine_waves
from ebmtrain.evaluation.estimators.wave_fit import Waves, _fit_waves
from ebmtrain.evaluation.wave_tests import _split_channels

LAWS = {
    "amplitude": Uniform(low=0.5, high=1.5),
    "frequency": Uniform(low=1.0, high=3.0),
    "phase": Uniform(low=0.0, high=2 * math.pi),
}
CHANCE = 6e-5  # 4 sigma


def made(**options) -> Points:
    return sine_waves(**{**LAWS, "n_train": 2000, "n_holdout": 500, "seed": 3, **options})


def waves(x) -> Waves:
    return _fit_waves(_split_channels(x))


@pytest.mark.parametrize("part", ["train", "holdout"])
def test_each_parameter_has_its_distribution(part):
    """Without noise the fit gives back what was drawn."""
    found = waves(getattr(made(std=0.0), part))
    for values, low, width in (
        (found.amplitude, 0.5, 1.0), (found.frequency, 1.0, 2.0), (found.phase, 0.0, 2 * math.pi),
    ):  # fmt: skip
        assert stats.kstest(values.numpy(), "uniform", (low, width)).pvalue > CHANCE
    assert float(found.residual.max()) < 1e-6
    numbers = torch.stack([found.amplitude, found.frequency, found.phase])
    off_diagonal = torch.corrcoef(numbers)[torch.triu(torch.ones(3, 3), 1) == 1]
    assert float(off_diagonal.abs().max()) < 4 / math.sqrt(len(found.amplitude))


def test_a_normal_parameter_has_its_distribution():
    found = waves(made(std=0.0, amplitude=LogNormal(median=2.0, spread=0.3)).train)
    standard = (found.amplitude / 2).log() / 0.3
    assert stats.kstest(standard.numpy(), "norm").pvalue > CHANCE


def test_a_parameter_may_be_a_constant():
    found = waves(made(std=0.0, frequency=Uniform(low=2, high=2)).train)
    torch.testing.assert_close(found.frequency, torch.full_like(found.frequency, 2.0))


def test_a_wave_is_the_formula_at_each_step():
    """x_t = A sin(2 pi f t / L + phi) from t = 0 on; a phase of all of the circle would hide where
    it begins."""
    constants = {"amplitude": 1.5, "frequency": 2.3, "phase": 0.4}
    laws = {name: Uniform(low=value, high=value) for name, value in constants.items()}
    wave = made(std=0.0, length=10, **laws).train[7, :, 0]
    expected = [1.5 * math.sin(2 * math.pi * 2.3 * t / 10 + 0.4) for t in range(10)]
    torch.testing.assert_close(wave, torch.tensor(expected, dtype=torch.float64))


def test_noise_has_the_given_standard_deviation():
    """The same waves with and without: the difference is N(0, std^2), independent at each step."""
    noise = made(std=0.3).train - made(std=0.0).train
    assert stats.kstest((noise / 0.3).flatten().numpy(), "norm").pvalue > CHANCE
    neighbours = float((noise[:, 1:] * noise[:, :-1]).mean()) / 0.09
    assert abs(neighbours) < 4 / math.sqrt(noise[:, 1:].numel())


def test_channels_are_independent_waves():
    points = made(channels=3, length=20)
    assert points.train.shape == (2000, 20, 3)
    assert points.holdout.shape == (500, 20, 3)
    both = torch.stack([waves(points.train[..., [c]]).frequency for c in range(2)])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 4 / math.sqrt(2000)


def test_samples_depend_on_the_seed():
    one, again, other = made(), made(), made(seed=4)
    assert torch.equal(one.train, again.train)
    assert not torch.equal(one.train, other.train)
    equal = made(n_train=500)  # from one stream they would be the same sequences
    assert torch.cdist(equal.train.flatten(1), equal.holdout.flatten(1)).min() > 0
    assert one.truth is None


def test_frequencies_above_nyquist_are_refused(command):
    outcome = command("check", "dataset=sine_waves", "dataset.length=8",
                      "dataset.frequency.high=9")  # fmt: skip
    assert outcome.code == 2
    assert outcome.err.startswith("ebmtrain: dataset: frequency has ")
    assert "8 steps show at most 4: lower dataset.frequency or raise dataset.length" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("dataset.std=-0.1", "dataset.std must be greater than or equal to 0, got -0.1"),
        ("dataset.length=3", "dataset.length must be greater than or equal to 4, got 3"),
        ("dataset.channels=0", "dataset.channels must be greater than or equal to 1, got 0"),
        ("dataset.amplitude=1.0", "dataset.amplitude must be a mapping with a _target_, got 1.0"),
        ("dataset.phase.high=x", "dataset.phase.high must be a valid number, got 'x'"),
        ("dataset.phase.hihg=1", "dataset.phase.high"),
        ("dataset.amplitude.low=2", "low=2 is above high=1.5: exchange them"),
        ("evaluation.points=5", "evaluation.points must be greater than or equal to 10, got 5"),
    ],
)
def test_options_out_of_range_are_refused(command, word, message):
    outcome = command("check", "dataset=sine_waves", "evaluation=sine_waves", word)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
