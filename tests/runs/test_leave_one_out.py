"""`train.leave_one_out`: a run for each class, which it has never seen, and one result of all."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ebmtrain.evaluation import ood_detection as anomalies
from ebmtrain.evaluation.ood_detection import DETECTORS
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.report.discovery import find_runs
from ebmtrain.runs.report.leave_one_out import write_leave_one_out
from ebmtrain.training.compiled.vmap import VmapTrainStep, _run_one_by_one

FEW = (
    "dataset=iris", "model=mixtures", "model.components=8", "method=dsm", "method.sigma=0.5",
    "evaluation=anomalies", "train.batch_size=32", "train.steps=3",
    "sampler=langevin", "diagnostics.chains=4", "diagnostics.draws=8", "diagnostics.thin=1",
    "quality.points=10", "quality.shuffles=5", "samples.count=10", "samples.chains=10",
    "samples.burn_in=2", "samples.thin=1", "plots.gif=false", "device.threads=1",
)  # fmt: skip


@pytest.mark.slow
def test_each_run_leaves_out_one_class_and_the_result_has_the_means(command, folder, monkeypatch):
    monkeypatch.setattr(RunFigures, "draw_all", lambda *_: [])
    monkeypatch.setattr(
        VmapTrainStep, "program", lambda *_: _run_one_by_one
    )  # the graph takes seconds
    monkeypatch.setattr(anomalies, "TREES", 5)
    monkeypatch.setattr(anomalies, "NUS", (0.1,))
    ended = command(*FEW, "train.leave_one_out=true", "seed=5")
    assert ended.code == 0, ended.err
    (whole,) = folder.glob("outputs/sweeps/*_iris")
    runs = [whole / f"{i}_without={i}" for i in range(3)]
    assert find_runs(whole) == find_runs(folder / "outputs") == runs
    metrics = []
    for i, run in enumerate(runs):
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert (config["seed"], config["dataset"]["without"]) == (5, i)
        assert config["train"]["leave_one_out"] is False
        metrics.append(json.loads((run / "result.json").read_text())["metrics"])
    result = json.loads((whole / "result.json").read_text())
    assert (result["status"], result["finished"]) == ("finished", 3)
    found = result["metrics"]
    assert found["auroc_per_class"] == [m["auroc"] for m in metrics]
    assert found["auroc_mean"] == pytest.approx(sum(m["auroc"] for m in metrics) / 3)
    for name in ("auroc_kde", "auroc_lof", "auroc_svm", "auroc_forest"):
        settings = zip(*(m[name] for m in metrics), strict=True)
        best = max(settings, key=sum)
        assert found[f"{name}_per_class"] == list(best)
        assert found[f"{name}_mean"] == pytest.approx(sum(best) / 3)
    best = max(found[f"auroc_{peer}_mean"] for peer in ("kde", "lof", "svm", "forest"))
    assert found["gain_over_best_peer"] == pytest.approx(found["auroc_mean"] - best)
    assert "AUROC of a class left out" in ended.out
    assert f"{found['auroc_mean']:.4f}" in ended.out
    again = command("resume", str(runs[1]), "train.steps=4")
    assert again.code == 0, again.err
    each = ("train.leave_one_out=true", "dataset.without=null")
    refused = command("resume", str(runs[1]), "train.steps=5", *each)
    assert refused.code == 2
    assert "train.leave_one_out=true begins new runs" in refused.err
    assert command("report", str(folder / "outputs")).code == 0


def result(status: str, **metrics: Any) -> dict[str, Any]:
    return {"status": status, "metrics": metrics}


def test_without_all_runs_finished_there_are_no_means(tmp_path: Path, capsys):
    peers = {f"auroc_{peer}": [0.125, 0.25] for peer in DETECTORS}
    whole = result("finished", auroc=0.75, **peers)
    for other, status in (
        (result("failed"), "failed"),
        (result("interrupted", auroc=0.5, **peers), "interrupted"),
    ):
        found = write_leave_one_out(tmp_path, [whole, other], 1.0)
        assert found == json.loads((tmp_path / "result.json").read_text())
        assert found == {
            "status": status, "seconds": 1.0, "metrics": {}, "runs": 2, "finished": 1
        }  # fmt: skip
    assert capsys.readouterr().out == ""
    # One setting for all classes: the first, though the second one suits the first class better.
    peers = {f"auroc_{peer}": [0.5, 0.25] for peer in DETECTORS}
    found = write_leave_one_out(tmp_path, [whole, result("finished", auroc=0.5, **peers)], 1.0)
    assert found is not None
    assert found["metrics"]["auroc_per_class"] == [0.75, 0.5]
    assert found["metrics"]["auroc_kde_per_class"] == [0.125, 0.5]
    assert found["metrics"]["gain_over_best_peer"] == 0.3125
    assert "the energy" in capsys.readouterr().out


@pytest.mark.parametrize("value", [math.nan, None])
def test_non_finite_values_have_no_means(tmp_path: Path, value: float | None):
    """None: as result.json has it."""
    peers = {f"auroc_{peer}": [0.5] for peer in DETECTORS}
    runs = [result("finished", auroc=number, **peers) for number in (0.75, value)]
    found = write_leave_one_out(tmp_path, runs, 1.0)
    assert found == json.loads((tmp_path / "result.json").read_text())
    assert found is not None
    assert (found["status"], found["metrics"], found["finished"]) == ("finished", {}, 2)


def test_runs_without_auroc_have_no_means(tmp_path: Path):
    assert write_leave_one_out(tmp_path, [result("finished", nll=1.0)], 1.0) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset=moons", "train.leave_one_out=true"], "toy has no option dataset.without"),
        (["dataset=wine", "dataset.without=3"], "classes of these data are 0 to 2"),
        (["dataset=wine", "dataset.without=-1"], "dataset.without must be greater than or equal"),
        (["dataset=wine", "dataset.without=red"], "dataset.without must be a valid integer"),
        (["dataset=wine", "evaluation=anomalies"], "needs a class that is left out of training"),
        (["train.leave_one_out=yes please"], "train.leave_one_out must be a valid boolean"),
        (
            ["dataset=wine", "train.leave_one_out=true", "train.ensemble=2"],
            "both start several runs",
        ),
        (
            ["dataset=wine", "train.leave_one_out=true", "dataset.without=1"],
            "leaves out every class in turn, and dataset.without=1 one",
        ),
    ],
)
def test_invalid_settings_are_refused_in_one_line(command, folder: Path, words, said):
    ended = command(*words, "train.batch_size=32")
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not list(folder.iterdir())


@pytest.mark.slow
def test_images_without_labels_are_refused(command, folder: Path):
    for part in ("train", "t10k"):
        head = bytes([0, 0, 8, 3]) + np.array([6, 4, 4], ">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + bytes(96)))
    words = ("dataset=idx", f"dataset.path={folder}", "model=mlp", "train.batch_size=4")
    for word, said in (
        ("train.leave_one_out=true", "these data have no classes: train.leave_one_out=false"),
        ("dataset.without=1", "these data have no classes to leave out: dataset.without=null"),
    ):
        ended = command(*words, word)
        assert ended.code == 2
        assert said in ended.err
        assert len(ended.err.splitlines()) == 1
