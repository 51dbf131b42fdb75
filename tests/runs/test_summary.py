"""The lines and titles of a run show the metrics that its last evaluation gave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ebmtrain.config.build import build
from ebmtrain.evaluation.protocol import Evaluation
from ebmtrain.runs.launch import run_experiment
from ebmtrain.runs.outcome import RunResult, report_outcome
from ebmtrain.runs.summary import closing_lines, figure_title

EXACT = {"kl": 0.1234, "kl_se": 0.01, "regret": 0.2, "nll": 2.5, "nll_se": 0.02, "entropy": 2.3}


def lines(tmp_path: Path, *left_out: str) -> list[str]:
    metrics = {k: v for k, v in EXACT.items() if k not in left_out}
    result = vars(RunResult(status="finished", step=20, metrics=metrics))
    return closing_lines(tmp_path, result, "", trains=True)


def test_regret_takes_the_place_of_a_kl_that_is_left_out(tmp_path):
    shown = lines(tmp_path)
    assert shown[0].startswith("KL       0.1234 nats")
    assert not any(line.startswith("regret") for line in shown)
    shown = lines(tmp_path, "kl", "kl_se")
    assert shown[0].startswith("regret   0.2000 nats")
    assert shown[1] == "NLL      2.5000 +- 0.0200 nats  entropy floor 2.3000"
    assert not any("KL  " in line for line in shown)
    shown = lines(tmp_path, *EXACT)
    assert [line.split()[0] for line in shown] == ["run", "next", "ebmtrain"]
    (tmp_path / "plots").mkdir()
    shown = lines(tmp_path, *EXACT)
    assert [line.split()[0] for line in shown] == ["run", "picture", "next", "ebmtrain"]


def test_distances_stand_beside_their_floors(tmp_path):
    metrics = {**EXACT, "energy_distance": 0.09, "energy_distance_floor": 0.003}
    result = vars(RunResult(status="finished", step=20, metrics=metrics))
    shown = closing_lines(tmp_path, result, "", trains=True)
    assert shown[2] == "samples  energy distance 0.09 (floor 0.003)"


def test_detection_of_anomalies_is_in_the_closing_lines(tmp_path):
    metrics = {"auroc": 0.9, "auroc_se": 0.01, "aupr": 0.75}
    result = vars(RunResult(status="finished", step=20, metrics=metrics))
    assert closing_lines(tmp_path, result, "", trains=True)[0] == (
        "AUROC    0.9000 +- 0.0100  AUPR 0.7500"
    )


def test_a_run_without_a_likelihood_says_so_and_offers_one(tmp_path):
    def closing(metrics, *warnings):
        result = vars(RunResult(status="finished", step=20, metrics=metrics, warnings=warnings))
        return closing_lines(tmp_path, result, " --trust a", trains=True)

    shown = closing({}, "no exact evaluation: the data have 50; choose evaluation=ais")
    assert shown[0] == "NLL      not measured in so many dimensions: see the last line"
    assert shown[-1].endswith("evaluation=ais --trust a")
    shown = closing({}, "no exact evaluation: 23 sites; choose evaluation=ais_states")
    assert shown[-1].endswith(" evaluation=ais_states --trust a")
    shown = closing({}, "log Z is uncertain, and it and NLL and KL are left out: half of it")
    assert shown[0] == "NLL      left out: see the warning"
    assert "evaluation=ais" not in shown[-1]
    shown = closing({"nll_lower": 90.0, "nll_upper": 120.5}, "log Z is uncertain, ... left out")
    assert shown[0].startswith("NLL      90 to 120.5 nats: bounds")


@pytest.mark.parametrize(
    ("metrics", "title"),
    [
        ({"kl": 0.5, "nll": 2.0}, "pcd  step 7  KL 0.5 nats"),
        ({"regret": 0.4, "nll": 2.0}, "pcd  step 7  regret 0.4 nats"),
        ({}, "pcd  step 7"),
    ],
)
def test_titles_show_the_first_headline_that_there_is(metrics, title):
    assert figure_title("pcd", 7, metrics) == title


@pytest.mark.usefixtures("no_pictures")
def test_a_run_whose_last_kl_is_left_out_reports_no_earlier_one(
    configured, tmp_path, monkeypatch, capsys
):
    from ebmtrain.evaluation.exact import Quadrature

    original, calls = Quadrature.__call__, []

    def left_out_at_the_end(self, inputs):
        calls.append(1)
        metrics, warnings = original(self, inputs)
        if len(calls) < 2:
            return Evaluation(metrics, warnings)
        return Evaluation({k: v for k, v in metrics.items() if "kl" not in k}, ["no KL: too fine"])

    monkeypatch.setattr(Quadrature, "__call__", left_out_at_the_end)
    config = configured("method=dsm", "evaluation.every=1000", "checkpoint.best=kl")
    result = run_experiment(build(config), tmp_path / "run", {})
    shown = capsys.readouterr().out
    assert len(calls) == 2  # before the first update and after the last
    assert "kl" not in result["metrics"]
    assert result["best"] == {"metric": "kl", "value": result["best"]["value"], "step": 0}
    assert any(w.startswith("kl is missing in the last evaluation") for w in result["warnings"])
    assert "\nKL " not in shown
    assert "\nregret " in shown


def test_an_interrupted_run_shows_its_step_and_no_metrics_of_an_earlier_one(tmp_path, capsys):
    result = vars(
        RunResult(status="interrupted", step=12, metrics={"kl": 1.5}, metrics_step=0, signal=15)
    )
    report_outcome("member 0", result, tmp_path, {}, {}, 0.0)
    assert capsys.readouterr().out.startswith("member 0  interrupted at step 12  ")


@pytest.mark.usefixtures("unrendered")
def test_a_number_that_is_left_out_is_nowhere(command, folder, tiny):
    """Neither in result.json, nor in titles, rows and tables; and it chooses no best.pt."""
    words = [word for word in tiny if not word.startswith("evaluation.tolerance")]
    outcome = command(
        *words, "evaluation.tolerance=1e-300", "plots.gif=false", "hydra.run.dir=runs/a"
    )
    assert outcome.code == 0, outcome.err
    assert "log Z is uncertain, and it and NLL and KL are left out" in outcome.out
    assert "NLL      left out: see the warning" in outcome.out
    assert "no best.pt" not in outcome.out
    result = json.loads((folder / "runs/a/result.json").read_text())
    headlines = {"kl", "regret", "nll", "log_z", "mode_weights", "mode_kl", "log_density_mse"}
    assert headlines.isdisjoint(result["metrics"])
    assert "energy_distance" in result["metrics"]
    assert result["best"] is None
    assert not (folder / "runs/a/checkpoints/best.pt").exists()
    for row in (folder / "runs/a/metrics.jsonl").read_text().splitlines():
        assert headlines.isdisjoint(json.loads(row))
    assert figure_title("pcd", 20, result["metrics"]) == "pcd  step 20"
    assert command("report", "runs").code == 0
    header = (folder / "runs/summary.csv").read_text().splitlines()[0]
    assert headlines.isdisjoint(header.split(","))
