"""Convergence diagnostics of a run's sampler: metrics and warnings."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra.errors import HydraException

from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.config.experiment import Experiment
from ebmtrain.errors import ConfigError
from ebmtrain.evaluation.alarms import energy_runaway, regularization_gap
from ebmtrain.evaluation.diagnostics import MAX_QUANTITIES, Diagnostics, _monitored_quantities
from ebmtrain.evaluation.protocol import EvaluationInput, Trace
from ebmtrain.runs.evaluate import evaluation_input
from ebmtrain.score import count_evaluations

WELLS = ("model=gaussian_mixture", "model.centres=[[-4,0],[4,0]]", "model.weights=[0.5,0.5]",
         "model.std=0.5", "train.steps=0", "sampler.adaptation=null", "sampler.step_size=0.05",
         "samples.start=noise", "samples.burn_in=50", "diagnostics.chains=32",
         "diagnostics.draws=100", "diagnostics.thin=5")  # fmt: skip


@pytest.fixture(scope="module")
def landscape():
    """The parts of a landscape; by default two separated wells and a step size that fits each."""

    def experiment(*words: str) -> Experiment:
        chosen = " ".join(words)
        kept = [
            w for w in WELLS
            if not w.startswith("sampler.") or not re.search("sampler=(langevin|tempering)", chosen)
        ]  # fmt: skip
        return build(presets.to_plain(presets.compose_config([*kept, "device.threads=1", *words])))

    return experiment


def diagnose(experiment: Experiment, method=None):
    return experiment.evaluators["diagnostics"](
        evaluation_input(experiment, experiment.energy, method or {})
    )


def test_chains_stuck_in_two_modes(landscape):
    found, warnings = diagnose(landscape("sampler.jumps=null"))
    assert found["rhat"] > 1.5
    (said,) = (w for w in warnings if "do not mix" in w)
    assert "R-hat is" in said
    assert "of the coordinate 1" in said
    assert "sampler.jumps.every=2" in said


def test_advice_names_available_options(landscape):
    """sampler=langevin has no jumps."""
    _, warnings = diagnose(landscape("sampler=langevin"))
    (said,) = (w for w in warnings if "do not mix" in w)
    assert "sampler=mala" in said
    assert "jumps" not in said


def test_the_same_chains_mix_with_jumps(landscape):
    found, warnings = diagnose(landscape("sampler.jumps.every=2", "diagnostics.draws=200"))
    assert warnings == []
    assert found["rhat"] < 1.1
    assert 0.1 < found["chain_jump_acceptance"] < 1


def test_ess_of_independent_draws(landscape):
    """3,200 draws far apart in time have an effective sample size of 3,200."""
    words = ("model.centres=[[0,0]]", "model.weights=[1]", "sampler.jumps=null",
             "sampler.step_size=0.3", "diagnostics.thin=30")  # fmt: skip
    found, warnings = diagnose(landscape(*words))
    assert warnings == []
    assert found["rhat"] < 1.02
    assert found["ess_bulk"] == pytest.approx(3200, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "per_step"),
    [
        (("sampler.jumps=null",), 1),
        (("sampler.jumps.every=5",), 1.2),
        (("sampler=hmc", "sampler.n_leapfrog=4", "sampler.jumps=null"), 4),
        (("sampler=langevin",), 1),
    ],
)
def test_energy_evaluations_are_counted(landscape, words, per_step):
    """100 draws, 5 steps between two, 32 chains, without the burn-in. The state continues, so that
    no point is evaluated again where a chain resumes.
    """
    experiment = landscape(*words)
    model = evaluation_input(experiment, experiment.energy, {})
    walk = model.trace(32, 100, 5)
    assert walk.evaluations == 100 * 5 * 32 * per_step
    found = Diagnostics(every=1, chains=32, draws=100, thin=5)(model).metrics
    assert found["ess_per_evaluation"] == pytest.approx(found["ess_bulk"] / walk.evaluations)
    assert found["ess_per_second"] == pytest.approx(found["ess_bulk"] / walk.seconds)


def test_energies_along_the_chains_are_in_units_of_the_temperature(landscape):
    """E(x) / T at the points themselves. Mixing does not depend on the unit, the figure does."""
    experiment = landscape("sampler.jumps=null", "sampler.temperature=2.0")
    model = evaluation_input(experiment, experiment.energy, {})
    record = Diagnostics(every=1, chains=8, draws=10, thin=2).record(model)
    with torch.no_grad():
        energies = experiment.energy(quantities_of_points(model).flatten(0, 1)).view(10, 8)
    assert record.names[0] == "energy"
    np.testing.assert_allclose(record.series[0], energies.T / 2, rtol=1e-6)


def test_the_same_chains_run_once(landscape):
    experiment = landscape()
    model = evaluation_input(experiment, experiment.energy, {})
    first = quantities_of_points(model)
    with count_evaluations(experiment.energy) as tally:
        assert quantities_of_points(model) is first
    assert tally.points == 0
    assert torch.equal(
        quantities_of_points(evaluation_input(experiment, experiment.energy, {})), first
    )


def quantities_of_points(model: EvaluationInput) -> torch.Tensor:
    return model.trace(8, 10, 2).points


def test_adapted_step_size_is_used_and_then_fixed(landscape):
    """The step size adapted in training continues to adapt in the burn-in and is fixed for the
    draws.
    """
    adapting = ("sampler=mala", "sampler.jumps=null", "samples.burn_in=0")
    experiment = build_adapting(landscape, adapting)
    learnt = {"step_size": torch.tensor(3e-3), "updates": torch.tensor(0.0)}
    small, _ = diagnose(experiment, learnt)
    assert small["chain_acceptance"] > 0.99  # adapting, it would fall to the target
    experiment = build_adapting(landscape, (*adapting[:2], "samples.burn_in=1500"))
    adapted, _ = diagnose(experiment, learnt)
    assert adapted["chain_acceptance"] == pytest.approx(0.574, abs=0.15)


def build_adapting(landscape, words):
    target = "ebmtrain.samplers.adaptation.StepSizeAdaptation"
    return landscape(*words, f"sampler.adaptation={{_target_:{target},target:0.574}}")


def test_low_acceptance_gives_a_warning(landscape):
    found, warnings = diagnose(landscape("sampler.step_size=50", "sampler.jumps=null"))
    assert found["chain_acceptance"] < 0.1
    assert any("hardly move" in w and "lower sampler.step_size" in w for w in warnings)


def test_stuck_chains_give_a_warning(landscape):
    found, warnings = diagnose(landscape("sampler.step_size=1e12", "sampler.jumps=null"))
    assert "rhat" not in found
    assert any("stuck" in w for w in warnings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sampler.clamp=3",), True),
        (("sampler.gradient_clip=0.1",), False),  # the rejection makes up for it
        (("sampler=langevin", "sampler.gradient_clip=0.1"), True),
        (("sampler=langevin",), False),
    ],
)
def test_clipped_steps_give_a_warning(landscape, words, said):
    found, warnings = diagnose(landscape(*words))
    bitten = [w for w in warnings if "does not sample exp(-E / T)" in w]
    assert bool(bitten) == said
    assert (found.get("chain_clipped", 0) > 0) == (len(words) > 1 or words[0] != "sampler=langevin")


def test_no_diagnostics_at_temperature_zero(landscape):
    found, (notice,) = diagnose(landscape("sampler=langevin", "sampler.temperature=0"))
    assert found == {}
    assert "only descend" in notice


def test_tempering_counts_its_hot_chains(landscape):
    experiment = landscape("sampler=tempering", "sampler.levels=3", "sampler.replicas=16")
    walk = evaluation_input(experiment, experiment.energy, {}).trace(32, 10, 5)
    assert walk.evaluations == 10 * 5 * (32 + 2 * 16)
    assert 0 < walk.rates["swapped"] < 1


def test_ages_and_restarts_of_the_buffer(configured):
    experiment = build(configured("method.reinit=0.5"))
    assert experiment.train_spec is not None
    g = experiment.generator("train")
    state = experiment.train_spec.method.init(experiment.train_spec.dataset.batch(0, 64, 0).x, g)
    rows = []
    for step in range(10):
        batch = experiment.train_spec.dataset.batch(step, 32, 0)
        _, metrics, state = experiment.train_spec.method.loss(experiment.energy, batch, state, g)
        rows.append(float(metrics["restarted"]))
    found, _ = diagnose(experiment, state)
    assert found["chain_age_mean"] == pytest.approx(float(state["ages"].float().mean()))
    assert found["chain_age_max"] == int(state["ages"].max())
    assert found["restarts"] == pytest.approx(32 * sum(rows))
    # Binomial(320, 1/2), 4 standard deviations.
    assert abs(found["restarts"] - 160) < 4 * (320 / 4) ** 0.5


def test_nonfinite_points_give_no_rhat(landscape):
    experiment = landscape()
    model = evaluation_input(experiment, experiment.energy, {})
    lost = Trace(torch.full((100, 32, 2), torch.nan), {"acceptance": 0.5}, 1, 1.0)
    broken = EvaluationInput(**{**vars(model), "trace": lambda *_: lost})
    found, (warning,) = experiment.evaluators["diagnostics"](broken)
    assert set(found) == {"chain_acceptance"}
    assert "not finite" in warning


def test_short_chains_give_metrics_without_warnings(landscape):
    found, warnings = diagnose(landscape("sampler.jumps=null", "diagnostics.draws=40"))
    assert found["rhat"] > 1.5
    assert warnings == []


def test_principal_axes_are_monitored_in_many_dimensions():
    """Two modes separated along one direction of 20: it is the first axis, for any origin."""
    g = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(20, generator=g), dim=0)
    signs = torch.randint(0, 2, (3000, 1), generator=g) * 2 - 1
    points = 30 + torch.randn(3000, 20, generator=g) + 5 * signs * direction
    names, values = _monitored_quantities(points)
    assert names == [f"principal axis {i}" for i in range(1, MAX_QUANTITIES + 1)]
    assert values.shape == (3000, MAX_QUANTITIES)
    axes = torch.linalg.lstsq(points.double(), values.double()).solution
    torch.testing.assert_close(axes.T @ axes, torch.eye(MAX_QUANTITIES).double(), atol=1e-4, rtol=0)
    assert abs(float(axes[:, 0] @ direction.double())) > 0.98
    names, values = _monitored_quantities(points[:, :3])
    assert names == ["coordinate 1", "coordinate 2", "coordinate 3"]
    assert torch.equal(values, points[:, :3])


@pytest.mark.parametrize(
    "words", [("diagnostics.chains=3",), ("diagnostics.draws=7",), ("diagnostics.thin=0",),
              ("diagnostics.evry=3",)])  # fmt: skip
def test_values_out_of_range(configured, words):
    with pytest.raises((ConfigError, HydraException), match=r"diagnostics\.\w+"):
        build(configured(*words))


def test_runaway_energies():
    assert energy_runaway({"energy_data": -20.0, "energy_model": 30.0, "loss": 1e5}, 2) is None
    said = energy_runaway({"energy_data": -3e4}, 2)
    assert said is not None
    assert said.startswith("energies run away: E(data) is -3e+04; lower optimizer.lr")
    assert energy_runaway({"energy_model": -3e4}, 1000) is None  # a sum over a thousand coordinates
    assert energy_runaway({"kl": 1.0}, 2) is None


def test_regularization_gap():
    apart = {"energy_data": -50.0, "energy_model": 50.0}
    said = regularization_gap(apart, 0.01)  # 2 * 0.01 * (2500 + 2500): the balance itself
    assert said is not None
    assert "energy_regularization=0.01 keeps the energies of chains and data 1e+02 nats" in said
    assert regularization_gap(apart, 0.0) is None  # a gap of another cause
    # Half of the balance: 0.01 * (3600 + 400) = 40.
    assert regularization_gap({"energy_data": -60.0, "energy_model": -20.1}, 0.01) is None
    assert regularization_gap({"energy_data": -60.0, "energy_model": -19.0}, 0.01) is not None
    assert regularization_gap({"energy_data": -1.0, "energy_model": -0.9}, 0.01) is None
    assert regularization_gap({"loss": 1e5}, 0.01) is None


@pytest.mark.usefixtures("no_pictures")
def test_regularization_gap_is_logged(command, folder, tiny):
    own = ("train.steps", "train.log_every", "method.slots")
    words = [w for w in tiny if not w.startswith(own)]
    held = ("train.steps=4", "train.log_every=1", "method=cd", "method.start=noise",
            "method.noise_std=10", "method.k=1", "method.energy_regularization=0.01")  # fmt: skip
    outcome = command(*words, *held)
    assert outcome.code == 0, outcome.err
    assert "keeps the energies of chains and data" in outcome.out


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_energy_runaway_is_logged_before_divergence(command, folder, tiny):
    """Chains that do not move learn nothing about the model: the loss separates noise from data
    without bound.
    """
    words = [w for w in tiny if not w.startswith(("train.steps", "method.slots"))]
    wild = ("train.steps=150", "model.base_std=null", "optimizer.lr=0.5", "method=cd",
            "method.start=noise", "method.energy_regularization=0", "sampler=langevin",
            "sampler.step_size=1e-4", "evaluation.every=1000")  # fmt: skip
    outcome = command(*words, *wild, "hydra.run.dir=run")
    lines = (folder / "run/run.log").read_text().splitlines()
    told = [line for line in lines if "energies run away" in line]
    assert len(told) == 1, outcome.out[-2000:]
    diverged = [i for i, line in enumerate(lines) if "training diverged" in line]
    assert not diverged or lines.index(told[0]) < diverged[0]


@pytest.mark.usefixtures("no_pictures")
def test_timings_are_separate_from_metrics(command, folder, tiny):
    """Wall-clock metrics are separate; untrained models are not diagnosed; `evaluate` diagnoses
    again.
    """
    words = ("hydra.run.dir=run", "diagnostics.every=10")
    assert command(*tiny, *words).code == 0
    result = json.loads((folder / "run/result.json").read_text())
    assert set(result["timings"]) == {"ess_per_second"}
    assert "ess_per_second" not in result["metrics"]
    rows = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "rhat" in row] == [10, 20]
    assert not any("ess_per_second" in row for row in rows)
    outcome = command("evaluate", "run", "diagnostics.chains=16")
    assert outcome.code == 0, outcome.err
    evaluated = json.loads((folder / "run/evaluation.json").read_text())
    again = evaluated["metrics"]
    assert set(evaluated["timings"]) == {"ess_per_second"}
    assert "ess_per_second " in outcome.out
    assert {"rhat", "ess_bulk", "ess_tail"} <= set(again)
    assert np.isfinite(again["rhat"])


def test_the_worst_quantity_is_reported(landscape):
    """The first coordinate and the energy are nearly independent draws, the second moves slowly."""
    experiment = landscape("diagnostics.chains=16", "diagnostics.draws=400")
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 16, 2, generator=g)
    for i in range(1, 400):
        x[i, :, 1] = 0.9 * x[i - 1, :, 1] + (1 - 0.9**2) ** 0.5 * x[i, :, 1]
    inputs = evaluation_input(experiment, experiment.energy, {})
    fixed = replace(inputs, energy=FirstCoordinate(), trace=lambda *_: Trace(x, {}, 100, 1.0))
    found, (said,) = experiment.evaluators["diagnostics"](fixed)
    assert found["ess_bulk"] == pytest.approx(16 * 400 * 0.1 / 1.9, rel=0.3)
    assert found["ess_tail"] < 0.25 * 16 * 400
    assert 1.02 < found["rhat"] < 1.1
    assert found["ess_per_evaluation"] == found["ess_bulk"] / 100
    assert "of the coordinate 2 have an effective sample size of" in said
    diagnostics = experiment.evaluators["diagnostics"]
    assert isinstance(diagnostics, Diagnostics)
    summary = diagnostics.summary(fixed)
    assert summary is not None
    assert summary.bulk[-1] == pytest.approx(found["ess_bulk"])


class FirstCoordinate(torch.nn.Module):
    def forward(self, x):
        return x[:, 0]
