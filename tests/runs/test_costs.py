"""The time of evaluations and final samples is told before the first update."""

from __future__ import annotations

import json
import time

import pytest

from ebmtrain.config.build import build
from ebmtrain.evaluation.baselines import Baselines
from ebmtrain.runs import costs
from ebmtrain.runs.costs import cost_lines
from ebmtrain.runs.launch import run_experiment
from ebmtrain.score import count_evaluations


def test_short_evaluations_are_not_told(configured):
    experiment = build(configured())
    assert cost_lines(experiment, experiment.energy) == []


def test_the_option_that_makes_it_long_is_named(configured):
    experiment = build(configured("samples.count=100000000"))
    (line,) = cost_lines(experiment, experiment.energy)
    assert line.startswith("evaluations, samples and figures take about ")
    assert "samples.count" in line
    assert "diagnostics" not in line


def _parts(experiment, monkeypatch, **seconds):
    """The estimate where a step, a point and a figure take these seconds."""
    monkeypatch.setattr(costs, "_time_step", lambda *_: seconds.get("step", 0.0))
    monkeypatch.setattr(costs, "_seconds_per_point", lambda *_: seconds.get("point", 0.0))
    return costs._seconds(experiment, experiment.energy, seconds.get("begun", 0))


def test_the_grid_counts_at_each_evaluation(configured, monkeypatch):
    words = ("train.steps=25", "evaluation.every=10", "evaluation.resolution=30", "plots.every=0")
    experiment = build(configured(*words))
    # At the steps 0, 10, 20 and 25; then at 20 and 25 only.
    assert _parts(experiment, monkeypatch, point=1.0)["evaluation"] == 4 * 5 * 30**2
    assert _parts(experiment, monkeypatch, point=1.0, begun=11)["evaluation"] == 2 * 5 * 30**2
    assert _parts(experiment, monkeypatch, point=1.0)["figures"] == 0


def test_estimators_of_scikit_learn_count_once_beside_the_grid(configured, monkeypatch):
    words = ("train.steps=20", "evaluation.every=10", "evaluation.resolution=30")

    def seconds(n: int) -> float:
        experiment = build(configured(*words, f"dataset.n_train={n}"))
        peers = Baselines(ours=experiment.evaluators["evaluation"])
        monkeypatch.setitem(experiment.evaluators, "evaluation", peers)
        return _parts(experiment, monkeypatch, point=1.0)["evaluation"]

    grid = 2 * 5 * 30**2  # not at step 0
    assert seconds(1000) == grid + costs._KERNELS_SECONDS + costs._MIXTURES_SECONDS
    assert seconds(4000) == grid + 16 * costs._KERNELS_SECONDS + 4 * costs._MIXTURES_SECONDS


def test_more_than_three_dimensions_have_no_grid(configured, monkeypatch):
    experiment = build(configured("dataset=iris", "train.batch_size=32"))
    assert _parts(experiment, monkeypatch, point=1.0)["evaluation"] == 0


def test_each_landscape_counts(configured, monkeypatch):
    few, many = (
        _parts(build(configured("train.steps=40", f"plots.every={n}")), monkeypatch)["figures"]
        for n in (40, 10)
    )
    assert few > 0
    assert many - few == pytest.approx(3 * costs._LANDSCAPE_SECONDS)


def test_evaluations_that_skip_the_untrained_model_are_not_counted_there(configured, monkeypatch):
    words = ("train.steps=20", "quality.every=10", "diagnostics.every=20")
    experiment = build(configured(*words))
    times = {found.name: found.times for found in costs._chains_and_steps(experiment)}
    assert times == {"samples": 1, "quality": 2, "diagnostics": 1}


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_a_share_above_thirty_percent_is_told(configured, monkeypatch, share):
    experiment = build(configured())
    monkeypatch.setattr(costs, "_seconds", lambda *_: {"quality": 10.0})
    monkeypatch.setattr(costs, "_training_seconds", lambda *_: 10 / share - 10)
    lines = cost_lines(experiment, experiment.energy)
    assert [f"about 10 s, {share:.0%} of the run: quality 10 s (quality.points)" in line
            for line in lines] == [True] * (share > 0.3)  # fmt: skip


def test_training_is_measured_by_a_copy(configured):
    experiment = build(configured("train.steps=1000"))
    before = [p.clone() for p in experiment.energy.parameters()]
    all_steps, half = (costs._training_seconds(experiment, step) for step in (0, 500))
    assert all_steps is not None
    assert half is not None
    assert 0.2 < half / all_steps < 2
    assert all(a.equal(b) for a, b in zip(before, experiment.energy.parameters(), strict=True))


@pytest.mark.parametrize("name", ["diagnostics", "quality"])
def test_the_steps_are_those_that_the_evaluation_makes(configured, name):
    """One evaluation of the energy per chain and step of mala, and one more for each start."""
    from ebmtrain.runs.evaluate import evaluation_input

    experiment = build(
        configured("sampler.jumps=null", "diagnostics.draws=20", "samples.burn_in=20")
    )
    (found,) = (one for one in costs._chains_and_steps(experiment) if one.name == name)
    chains, steps = found.chains, found.steps
    model = evaluation_input(experiment, experiment.energy, {})
    with count_evaluations(experiment.energy) as tally:
        if name == "quality":
            model.draw(experiment.evaluators["quality"].points)  # type: ignore[attr-defined]
        else:
            model.trace(chains, 20, 1)
    assert tally.points == pytest.approx(chains * steps, rel=0.1)


def test_the_time_of_a_step_is_measured(configured, monkeypatch):
    experiment = build(configured())
    forward = type(experiment.energy).forward

    def slow(self, x):
        time.sleep(1e-4 * len(x))
        return forward(self, x)

    monkeypatch.setattr(type(experiment.energy), "forward", slow)
    monkeypatch.setattr(type(experiment.energy), "energy_and_gradient", None, raising=False)
    found = costs._seconds_per_step(experiment, experiment.energy, 2000)
    assert 0.2 <= found < 4  # some evaluations in each step


def test_the_overhead_of_few_chains_is_not_multiplied(configured, monkeypatch):
    """A step of 20 ms, however many chains it is of."""
    experiment = build(configured())
    monkeypatch.setattr(costs, "_time_step", lambda *_: 0.02)
    assert costs._seconds_per_step(experiment, experiment.energy, 2000) == 0.02
    assert costs._seconds_per_step(experiment, experiment.energy, 3) == 0.02


@pytest.mark.usefixtures("no_pictures")
def test_measuring_changes_nothing(configured, tmp_path, monkeypatch):
    def rows(name):
        run_experiment(build(configured("train.steps=10")), tmp_path / name, {}, quiet=True)
        text = (tmp_path / name / "metrics.jsonl").read_text()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"}
                for line in text.splitlines()]  # fmt: skip

    monkeypatch.setattr(costs, "_MIN_TOLD_SECONDS", 0.0)  # updates are measured too
    measured = rows("a")
    assert " of the run: " in (tmp_path / "a/run.log").read_text()
    monkeypatch.setattr("ebmtrain.runs.session.cost_lines", lambda *_, **__: [])
    assert rows("b") == measured
