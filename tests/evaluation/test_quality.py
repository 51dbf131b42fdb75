"""Sample quality of perfect models and of models with one fault."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from repeats import normal, seeded

from ebmtrain.cli.main import main
from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.datasets.gaussian_mixture import GaussianMixture
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.evaluation.estimators.modes import mass_kl, mode_coverage
from ebmtrain.evaluation.estimators.u_statistics import random_signs
from ebmtrain.evaluation.protocol import EvaluationInput
from ebmtrain.evaluation.quality import Quality, choose_real_points, energy_gap, sample_metrics
from ebmtrain.evaluation.verdict import _DISTANCES
from ebmtrain.models.gaussian import Gaussian
from ebmtrain.runs.evaluate import evaluation_input
from ebmtrain.runs.launch import run_experiment
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Region

FIVE = GaussianMixture(centres=[[0, 0], [2, 2], [2, -2], [-2, 2], [-2, -2]], std=0.3,
                       weights=[0.1, 0.3, 0.2, 0.2, 0.2])  # fmt: skip
COMPARED = ("mmd2", "energy_distance", "sliced_wasserstein")
CHECK = Quality(every=1, points=500, projections=20, shuffles=100)


class DensityEnergy(torch.nn.Module):
    """E = -T log p, of standardized points."""

    def __init__(self, truth, units, temperature):
        super().__init__()
        self.truth, self.units, self.temperature = truth, units, temperature

    def forward(self, u):
        return -self.temperature * self.truth.log_prob(self.units.to_data(u))


def unused_trace(*_):
    raise AssertionError("records no chains")


def perfect(
    truth=FIVE, *, seed=0, n=2_000, model=None, drawn=None, temperature=1.0
) -> EvaluationInput:
    """Data of the true density, and a model and samples that are equal to it unless given."""
    g = seeded(seed)
    train, holdout = truth.sample(n, g), truth.sample(n, g)
    units = fit_standardization(train, True)
    u = units.to_standard(train)
    return EvaluationInput(
        energy=DensityEnergy(model or truth, units, temperature),
        temperature=temperature,
        region=Region(u.amin(0), u.amax(0)),
        standardization=units,
        dataset=Points(train, holdout, standardization=units, truth=truth),
        draw=lambda count: units.to_standard((drawn or truth).sample(count, g)),
        sampler=Mala(step_size=0.1),  # nothing of it is run here
        method={},
        trace=unused_trace,
        generator=lambda purpose: seeded(1_000 + seed + sum(map(ord, purpose))),
    )


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_perfect_model(temperature):
    found, warnings = CHECK(perfect(temperature=temperature))
    for name in (*COMPARED, "ksd2"):
        # 1 of 20 is above its floor, and none 4 times as high.
        assert found[name] < 4 * found[f"{name}_floor"]  # type: ignore[operator]
    assert found["fisher_divergence"] == pytest.approx(0, abs=1e-12)
    assert found["mode_coverage"] == 1
    assert found["mode_kl_samples"] < 4 * 4 / (2 * 500)  # type: ignore[operator]
    off = abs(found["temperature_fitted"] - temperature)  # type: ignore[operator]
    assert off < 4 * found["temperature_fitted_se"]  # type: ignore[operator]
    assert warnings == []


def test_wrong_samples_exceed_the_floors():
    """Wrong weights show in all three distances, wrong widths of modes in MMD. The score of the
    model is correct nevertheless, and KSD shows that.
    """
    found, _ = CHECK(perfect(drawn=replace(FIVE, weights=[0.1, 0.6, 0.1, 0.1, 0.1])))
    for name in COMPARED:
        assert found[name] > 2 * found[f"{name}_floor"]  # type: ignore[operator]
    floors = {name: value for name, value in found.items() if name.endswith("_floor")}
    found, warnings = CHECK(perfect(drawn=replace(FIVE, std=0.6)))
    raised = floors.pop("sliced_wasserstein_floor")  # also of the samples
    assert found["sliced_wasserstein_floor"] == pytest.approx(raised, rel=0.2)
    assert floors == {name: found[name] for name in floors}  # of real points alone
    assert found["mmd2"] > 2 * found["mmd2_floor"]  # type: ignore[operator]
    assert found["ksd2"] < 4 * found["ksd2_floor"]  # type: ignore[operator]
    assert found["temperature_fitted"] > 2  # type: ignore[operator]
    assert len(warnings) == 1
    assert "evaluated at 1: lower sampler.step_size" in warnings[0]


def test_a_wrong_model():
    found, _ = CHECK(perfect(model=replace(FIVE, std=0.45), drawn=replace(FIVE, std=0.45)))
    assert found["ksd2"] > 4 * found["ksd2_floor"]  # type: ignore[operator]
    assert found["fisher_divergence"] > 1  # type: ignore[operator]
    assert found["temperature_fitted"] == pytest.approx(1, abs=0.2)


def test_a_missing_mode():
    """The first of five modes: none of the samples, a tenth of the data."""
    lost = replace(FIVE, weights=[0.0, 0.3, 0.2, 0.3, 0.2])
    found, _ = CHECK(perfect(drawn=lost))
    assert found["mode_coverage"] == pytest.approx(0.8)
    shares = found["mode_weights_samples"]
    assert isinstance(shares, list)
    assert shares[0] == 0
    assert sum(shares) == pytest.approx(1)
    # One point more, a tenth of it in the mode that is missed.
    expected = mass_kl(
        torch.tensor([0.1, 0.3, 0.2, 0.2, 0.2]).double(),
        torch.tensor([0.1 / 501, *shares[1:]]).double(),
    )
    assert found["mode_kl_samples"] == pytest.approx(expected, rel=0.05)
    assert expected > 0.3


def test_coverage_threshold_is_a_tenth_of_the_weight():
    true = torch.tensor([0.5, 0.3, 0.2, 0.0]).double()
    shares = torch.tensor([0.92, 0.05, 0.03, 0.0]).double()
    assert mode_coverage(true, shares) == 1
    assert mode_coverage(true, shares - torch.tensor([0, 0, 0.011, 0])) == pytest.approx(2 / 3)


def test_results_do_not_depend_on_units():
    big = replace(FIVE, std=300.0, centres=[[1000 * c + 5e4 for c in x] for x in FIVE.centres])
    found = [CHECK(perfect(truth)).metrics for truth in (FIVE, big)]
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize(("shape", "n"), [((1,), 300), ((3, 4), 300), ((2, 2, 20), 300), ((2,), 2)])
def test_any_event_shape_few_points_and_no_true_density(shape, n):
    train, holdout = normal(4 * n, *shape), normal(n, *shape, seed=1)
    units = fit_standardization(train, True)
    one = EvaluationInput(
        energy=Gaussian(event_shape=shape),
        temperature=1.0,
        region=Region(torch.zeros(1), torch.ones(1)),
        standardization=units,
        dataset=Points(train, holdout, standardization=units),
        draw=lambda count: normal(count, *shape, seed=2).float(),
        sampler=Mala(step_size=0.1),
        method={},
        trace=unused_trace,
        generator=lambda purpose: seeded(0),
    )
    found, _ = CHECK(one)
    floors = {f"{name}_floor" for name in (*COMPARED, "ksd2")}
    temperature = {"temperature_fitted", "temperature_fitted_se"}
    assert set(found) == {*COMPARED, "ksd2", *floors, *temperature, "energy_gap"}
    assert all(math.isfinite(v) for v in found.values())  # type: ignore[arg-type]
    train, holdout = choose_real_points(one.dataset, 10_000, seeded(0))  # type: ignore[arg-type]
    assert len(train) == len(holdout) == n


def test_the_energy_gap_is_in_units_of_the_temperature():
    """Samples of twice the width on E = u^2 / 2 + 7: (4 - 1) / 2 per coordinate over T = 2."""
    found = energy_gap(Offset(), 2 * normal(40_000, 3, seed=0), normal(40_000, 3, seed=1), 2.0)
    error = math.sqrt(3 * (16 + 1) / 2 / 40_000) / 2
    assert found == pytest.approx(3 * (4 - 1) / 2 / 2, abs=4 * error)


class Offset(torch.nn.Module):
    def forward(self, x):
        return x.square().sum(1) / 2 + 7


def test_a_single_held_out_point():
    one = perfect()
    x = FIVE.sample(40, seeded(0))
    data = Points(x, x[:1], standardization=one.standardization)
    found, warnings = CHECK(replace(one, dataset=data))
    assert set(found) == {"temperature_fitted", "temperature_fitted_se", "energy_gap"}
    assert warnings == ["no sample quality: there is a single held-out point; hold out more points"]


def test_nonfinite_samples():
    lost = lambda count: torch.full((count, 2), math.nan)  # noqa: E731
    found, warnings = CHECK(replace(perfect(), draw=lost))
    assert set(found) == {"ksd2", "ksd2_floor", "fisher_divergence"}
    assert len(warnings) == 1
    assert "500 of 500 samples are not finite" in warnings[0]


def test_a_landscape_has_no_quality():
    assert CHECK(replace(perfect(), dataset=None)) == ({}, [])


def test_the_model_is_not_modified(configured):
    experiment = build(configured("model.spectral_norm=true"))
    before = {k: v.clone() for k, v in experiment.energy.state_dict().items()}
    experiment.energy.train()
    experiment.evaluators["quality"](evaluation_input(experiment, experiment.energy, {}))
    assert experiment.energy.training
    assert all(p.requires_grad and p.grad is None for p in experiment.energy.parameters())
    for name, value in experiment.energy.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_run_with_too_hot_chains(tiny, tmp_path: Path, capsys):
    """langevin at a large step size, on a Gaussian of variance 1: temperature 1 / (1 - 0.5), with a
    warning; evaluated again with more points; and mala at another temperature, without a warning.
    """
    words = ("model=gaussian", "dataset.density.centres=[[0,0]]", "train.steps=1",
             "optimizer.lr=1e-9", "samples.chains=2000", "samples.burn_in=30",
             "quality.points=2000")  # fmt: skip

    def built(*more: str):
        few = [word for word in tiny if not word.startswith("model.")]
        return build(presets.to_plain(presets.compose_config([*few, *words, *more])))

    hot = ("sampler=langevin", "sampler.step_size=1.0")
    run_experiment(built(*hot), tmp_path / "hot", {}, quiet=True)
    told = json.loads((tmp_path / "hot/result.json").read_text())
    fitted, error = (told["metrics"][f"temperature_fitted{end}"] for end in ("", "_se"))
    assert abs(fitted - 2) < 4 * error
    assert any("the samples have temperature" in warning for warning in told["warnings"])
    assert main(["evaluate", str(tmp_path / "hot"), "quality.points=1000"]) == 0
    out = capsys.readouterr().out
    assert "temperature_fitted " in out
    assert "warning: the samples have temperature" in out
    right = ("sampler=mala", "sampler.temperature=0.5", "samples.burn_in=200")
    run_experiment(built(*right), tmp_path / "right", {}, quiet=True)
    told = json.loads((tmp_path / "right/result.json").read_text())
    fitted, error = (told["metrics"][f"temperature_fitted{end}"] for end in ("", "_se"))
    assert abs(fitted - 0.5) < 4 * error
    assert not any("temperature" in warning for warning in told["warnings"])


def test_quality_has_its_own_period(configured, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("ebmtrain.runs.figures.RunFigures.draw_landscape", lambda *_: None)
    monkeypatch.setattr("ebmtrain.runs.figures.RunFigures.draw_all", lambda *_: [])
    words = ("train.steps=20", "quality.every=8", "evaluation.every=10", "train.log_every=1")
    run_experiment(build(configured(*words)), tmp_path / "run", {}, quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "mmd2" in row] == [8, 16, 20]
    assert [row["step"] for row in rows if "kl" in row] == [0, 10, 20]


def test_heavy_tails_give_no_alarm_of_the_sliced_wasserstein_distance():
    """Of Cauchy points; the floor from real points alone is exceeded twofold in a tenth of them."""
    g = seeded(5)
    directions, signs = torch.ones(1, 1, dtype=torch.float64), random_signs(150, 40, g)

    def ratio(shift):
        x = torch.empty(3, 150, 1, dtype=torch.float64).cauchy_(generator=g)
        found = sample_metrics(x[0] + shift, x[1], x[2], directions, signs)
        return found["sliced_wasserstein"] / found["sliced_wasserstein_floor"]

    assert max(ratio(0.0) for _ in range(60)) < _DISTANCES["sliced_wasserstein"][1]
    assert min(ratio(1e4) for _ in range(5)) > _DISTANCES["sliced_wasserstein"][1]
