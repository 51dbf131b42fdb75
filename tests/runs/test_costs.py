"""The time of evaluations and final samples is told before the first update."""

from __future__ import annotations

import json
import time

import pytest

from ebmtrain.config.build import build
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
    assert line.startswith("the last evaluation and the final samples will take about ")
    assert "samples.count" in line
    assert "diagnostics" not in line


@pytest.mark.parametrize("name", ["diagnostics", "quality"])
def test_the_steps_are_those_that_the_evaluation_makes(configured, name):
    """One evaluation of the energy per chain and step of mala, and one more for each start."""
    from ebmtrain.runs.evaluate import evaluation_input

    experiment = build(
        configured("sampler.jumps=null", "diagnostics.draws=20", "samples.burn_in=20")
    )
    chains, steps = costs._chains_and_steps(experiment)[name]
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

    measured = rows("a")
    monkeypatch.setattr("ebmtrain.runs.session.cost_lines", lambda *_: [])
    assert rows("b") == measured
