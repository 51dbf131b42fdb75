"""`ebmtrain score` and `evaluate ood=FILE`: energies of somebody's rows, in their own units."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import ebmtrain
from ebmtrain.datasets.digits import digits

HEADER = "mass,label,length\n"


@pytest.fixture
def run(command, folder: Path, tiny_file, no_pictures) -> Path:
    """Of a table in odd units, with a column of words."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(60, 2)) * [100.0, 0.01] + [5000.0, 3.0]
    lines = [f"{a!r},red,{b!r}\n" for a, b in rows.tolist()]
    (folder / "table.csv").write_text(HEADER + "".join(lines))
    words = ("dataset=file", "dataset.path=table.csv", "dataset.columns=[mass,length]")
    words = (*words, "dataset.standardize=whiten", "train.batch_size=16", "hydra.run.dir=run")
    assert command(*tiny_file, *words).code == 0
    return folder / "run"


def files_in(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def read(path: str) -> dict[str, np.ndarray]:
    with Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def test_each_row_gets_its_energy_and_density(command, folder: Path, run: Path):
    Path("new.csv").write_text("length,mass\n3.0,5000\n3.01,5100\n2.0,5000\n")  # another order
    before = files_in(folder)
    assert command("score", run, "--data", "new.csv", "--out", "out/scores.csv").code == 0
    now = files_in(folder)
    assert set(now) - set(before) == {folder / "out/scores.csv"}
    assert {p: now[p] for p in before} == before
    scores, model = read("out/scores.csv"), ebmtrain.load(run)
    points = np.array([[5000, 3.0], [5100, 3.01], [5000, 2.0]])
    with torch.no_grad():
        expected = model.energy(points).numpy()
    np.testing.assert_allclose(scores["energy"], expected, rtol=1e-6)
    log_z = model.result["metrics"]["log_z"]
    np.testing.assert_allclose(scores["neg_log_p"], scores["energy"] + log_z, atol=1e-6)
    assert scores["energy"].argmax() == 2  # a hundred standard deviations away
    # The mean -log p of the held-out rows is the NLL of the run.
    dataset = model.experiment.dataset
    assert dataset is not None
    np.save("holdout.npy", dataset.holdout.numpy())
    assert command("score", run, "--data", "holdout.npy", "--out", "x.npz").code == 0
    with np.load("x.npz") as file:
        nll = model.result["metrics"]["nll"]
        assert file["neg_log_p"].mean() == pytest.approx(nll, abs=1e-4)
    assert command("score", run, "--data", "holdout.npy", "--out", "x.npy").code == 0
    assert np.load("x.npy").shape == (12,)
    outcome = command("score", run, "--data", "holdout.npy", "--out", "x.npy")
    assert outcome.lines[-1] == "12 rows, energy: x.npy"  # and no density, which npz files have


def test_a_threshold_has_its_false_positive_rate(command, run: Path):
    """From the held-out rows; without --data these are scored. If there are too few of them, or if
    they are gone, a line says so, and the energies are written."""
    outcome = command("score", run, "--out", "x.npz", "fpr=0.25")
    assert outcome.code == 0, outcome.err
    with np.load("x.npz") as file:
        found = dict(file)
    energy, limit = found["energy"], float(found["threshold"])
    assert (len(energy), float(found["fpr"])) == (12, 0.25)
    assert limit == np.sort(energy)[9]  # the tenth of twelve: ceil(13 * 3/4) = 10
    assert found["anomaly"].tolist() == (energy > limit).astype(int).tolist()
    assert "threshold" in outcome.lines[0]
    assert "at most 25.00% false positives, from 12 held-out rows" in outcome.lines[0]
    table = np.genfromtxt("table.csv", delimiter=",", skip_header=1)[:, [0, 2]]
    dataset = ebmtrain.load(run).experiment.dataset
    assert dataset is not None
    np.testing.assert_allclose(table[found["row"]], dataset.holdout)
    few = command("score", run, "--out", "x.csv")
    assert "no threshold: a false-positive rate of 0.05 needs 19 held-out rows" in few.out
    assert "anomaly" not in read("x.csv")
    assert "threshold" not in command("score", run, "--out", "x.csv", "fpr=null").out
    Path("table.csv").rename("moved.csv")
    Path("new.csv").write_text("mass,length\n5000,3.0\n9000,3.0\n")
    words = ("score", run, "--data", "new.csv", "--out", "x.csv", "fpr=0.25")
    outcome = command(*words)
    assert (outcome.code, "no threshold: " in outcome.out) == (0, True)
    assert "add dataset.path=PLACE" in outcome.out
    assert command(*words, "dataset.path=moved.csv").code == 0
    assert read("x.csv")["anomaly"].tolist() == [0, 1]
    assert "add dataset.path=PLACE" in command("score", run, "--out", "x.csv").err


@pytest.mark.slow
def test_without_log_z_there_is_no_density(command, run: Path):
    Path("new.csv").write_text("5000,3.0\n")  # columns without names: in the run's order
    told = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(told | {"metrics_step": 10}))
    outcome = command("score", run, "--data", "new.csv", "--out", "x.csv")
    assert "log Z of step 20 is not known" in outcome.out
    assert list(read("x.csv")) == ["energy"]
    assert command("evaluate", run).code == 0
    assert command("score", run, "--data", "new.csv", "--out", "x.csv").code == 0
    assert list(read("x.csv")) == ["energy", "neg_log_p"]
    for broken in ({"metrics": 3}, {"metrics": {"log_z": "5"}}, {"metrics": {"log_z": math.inf}}):
        for name in ("result.json", "evaluation.json"):
            (run / name).write_text(json.dumps({"step": 20, "metrics_step": 20} | broken))
        assert command("score", run, "--data", "new.csv", "--out", "x.csv").code == 0
        assert list(read("x.csv")) == ["energy"]


BAD = {
    "no file": (None, "new.csv does not exist: check the path"),
    "empty": ("", "new.csv is empty"),
    "a column less": ("mass,breadth\n1,2\n", "no column length: check the names"),
    "a column more": ("1,2,3\n", "points of shape (3,), the model takes (2,)"),
    "a missing value": ("mass,length\n1,\n", "line 2, column 2 (length) is empty"),
    "no rows": ("mass,length\n", "holds no numbers"),
}


@pytest.mark.slow
def test_unusable_files_are_refused(command, folder: Path, run: Path):
    for content, message in BAD.values():
        Path("new.csv").unlink(missing_ok=True)
        if content is not None:
            Path("new.csv").write_text(content)
        before = files_in(folder)
        for words in (("score", run, "--data", "new.csv", "--out", "x.csv"),
                      ("evaluate", run, "ood=new.csv")):  # fmt: skip
            outcome = command(*words)
            assert outcome.code == 2
            assert message in outcome.err
            assert outcome.err.count("\n") == 1
        assert files_in(folder) == before


def test_invalid_arguments_are_refused(command, folder: Path, run: Path):
    for words, message in [
        (["--out", "x.csv", "fpr=2"], "fpr must be between 0 and 1, or null"),
        (["--data", "table.csv"], "--out FILE is missing"),
        (["--data", "table.csv", "--out", "x.txt"], "--out must end in .csv, .npy or .npz"),
        (["--data", "table.csv", "--out", "./table.csv"], "it would be overwritten"),
        (["--data", "table.csv", "--out", "x.csv", "cuont=3"], "unknown option cuont"),
        (["--data", "table.csv", "--out", "x.csv", "--dta", "y"], "unknown flag --dta"),
        (["--data"], "--data needs a value"),
    ]:
        outcome = command("score", run, *words)
        assert outcome.code == 2
        assert message in outcome.err
    assert not Path("x.csv").exists()


def test_energies_separate_other_points_from_the_data(command, run: Path):
    Path("far.csv").write_text("mass,length\n" + "9000,3.5\n" * 20)
    outcome = command("evaluate", run, "ood=far.csv")
    assert outcome.code == 0
    told = json.loads((run / "evaluation.json").read_text())
    assert told["metrics"]["ood_auroc"] == 1.0
    assert told["metrics"]["ood_fpr95"] == 0.0
    assert told["options"] == {"ood": "far.csv"}
    assert (run / "plots/ood.png").stat().st_size > 1000
    refused = command("evaluate", run, "odd=far.csv")
    assert "did you mean ood?" in refused.err


def test_samples_keep_the_column_names(command, run: Path):
    assert command("sample", run, "count=5", "out=x.csv").code == 0
    lines = Path("x.csv").read_text().splitlines()
    assert (lines[0], len(lines)) == ("mass,length", 6)
    assert command("score", run, "--data", "x.csv", "--out", "scores.csv").code == 0


@pytest.mark.slow
def test_figures_name_the_columns(command, folder: Path, tiny_file):
    random = np.random.default_rng(0)
    lines = [",".join(map(repr, row)) for row in random.normal(size=(40, 4)).tolist()]
    (folder / "table.csv").write_text("\n".join(["mass,length,age,hue", *lines]))
    words = ("dataset=file", "dataset.path=table.csv", "train.batch_size=16", "train.steps=2")
    assert command(*tiny_file, *words, "hydra.run.dir=run").code == 0
    drawn = {path.name for path in (folder / "run/plots").iterdir()}
    assert {"samples_final.png", "pairs_final.png"} < drawn


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dequantize", "remedy"), [("true", "add such noise"), ("false", "add 1/2")]
)
def test_scored_images_have_the_preprocessing_of_training(
    command, folder, no_pictures, dequantize, remedy
):
    """k + u in place of k: the very images held out would be told from themselves by a model that
    knows the noise."""
    words = (
        "dataset=digits", f"dataset.dequantize={dequantize}", "model=gaussian", "method=sm",
        "train.steps=2", "evaluation.every=9", "evaluation.resolution=8", "samples.count=20",
        "samples.chains=20", "samples.burn_in=2", "samples.thin=1", "quality.points=10",
        "quality.shuffles=5", "diagnostics.chains=4", "diagnostics.draws=8",
        "diagnostics.thin=1", "device.threads=1", "hydra.run.dir=run",
    )  # fmt: skip
    trained = command(*words)
    assert trained.code == 0, trained.err
    whole = digits(seed=0).holdout.floor().numpy()
    np.save("whole.npy", whole)
    np.save("mask.npy", np.eye(8))
    for question in (
        ("score", "run", "--data", "whole.npy", "--out", "x.npz"),
        ("evaluate", "run", "ood=whole.npy"),
        ("sample", "run", "--inpaint", "mask.npy", "--data", "whole.npy"),
        ("sample", "run", "--denoise", "whole.npy", "noise=1"),
    ):
        refused = command(*question)
        assert (refused.code, len(refused.err.splitlines())) == (2, 1), refused
        assert "whole.npy holds whole numbers" in refused.err
        assert remedy in refused.err
    noise = np.random.default_rng(0).random(whole.shape) if dequantize == "true" else 0.5
    np.save("learnt.npy", whole + noise)
    assert command("score", "run", "--data", "learnt.npy", "--out", "x.npz").code == 0


def test_channels_last_images_get_their_own_message(command, folder, tiny_file, no_pictures):
    images = np.random.default_rng(0).normal(size=(40, 2, 3, 4))
    np.save("first.npy", images)
    small = [word for word in tiny_file if not word.startswith("model.")]
    words = ("dataset=file", "dataset.path=first.npy", "model=gaussian", "method=sm",
             "train.batch_size=16", "train.steps=2", "hydra.run.dir=run")  # fmt: skip
    small = [word for word in small if not word.startswith("method.")]
    trained = command(*small, *words)
    assert trained.code == 0, trained.err
    for shape, remedy in (((0, 2, 3, 1), "put the channels first"), ((0, 3, 2, 1), "columns")):
        np.save("other.npy", images.transpose(shape))
        refused = command("score", "run", "--data", "other.npy", "--out", "x.npz")
        assert (refused.code, len(refused.err.splitlines())) == (2, 1), refused
        assert remedy in refused.err


@pytest.mark.slow
def test_densities_at_another_temperature(command, folder, gaussian_run):
    """E / T + log Z, whose mean over the held-out rows is the NLL of the run."""
    run = gaussian_run("sampler.temperature=2", "dataset.standardize=whiten")
    model = ebmtrain.load(run)
    np.save("holdout.npy", model.experiment.dataset.holdout.numpy())  # type: ignore[union-attr]
    assert command("score", run, "--data", "holdout.npy", "--out", "x.npz").code == 0
    with np.load("x.npz") as file:
        found = file["neg_log_p"].mean()
    assert found == pytest.approx(model.result["metrics"]["nll"], abs=1e-4)
