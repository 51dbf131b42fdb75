"""Sequences in files: arrays (n, length, channels), and tables whose rows are steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ebmtrain.datasets.file import from_file

LONG = ("dataset.id=id", "dataset.time=t")
WAVES = np.sin(np.arange(12.0)[:, None, None] + np.arange(8.0)[:, None] / [1.0, 2.0])


def table(x: np.ndarray, *, seed: int | None = None, comma: str = ",") -> str:
    """In long format, the rows shuffled where there is a seed; sequences are called s0, s1, ..."""
    rows = [
        comma.join([f"s{i}", repr(0.5 * t), *(repr(float(v)) for v in step), "note"])
        for i, sequence in enumerate(x)
        for t, step in enumerate(sequence)
    ]
    if seed is not None:
        np.random.default_rng(seed).shuffle(rows)
    head = comma.join(["id", "t", *(f"c{j}" for j in range(x.shape[2])), "remark"])
    return "\n".join([head, *rows])


def all_points(points) -> list:
    rows = np.concatenate([points.train.numpy(), points.holdout.numpy()])
    return sorted(rows.tolist())


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_long_format_gives_the_array(tmp_path, seed, comma):
    """Whatever order its rows have."""
    (tmp_path / "x.csv").write_text(table(WAVES, seed=seed, comma=comma))
    options = {"path": str(tmp_path / "x.csv"), "id": "id", "time": "t", "seed": 1}
    points = from_file(columns=["c0", "c1"], **options)
    assert points.train.shape[1:] == (8, 2)
    assert points.names is None
    assert all_points(points) == sorted(WAVES.tolist())
    exchanged = from_file(columns=["c1", "c0"], **options)
    assert all_points(exchanged) == sorted(WAVES[..., ::-1].tolist())


def test_unnamed_channels_are_all_other_columns(tmp_path):
    lines = [line.rpartition(",")[0] for line in table(WAVES).splitlines()]  # without the remarks
    (tmp_path / "x.csv").write_text("\n".join(lines))
    points = from_file(path=str(tmp_path / "x.csv"), id="id", time="t", seed=1)
    assert all_points(points) == sorted(WAVES.tolist())


def test_numeric_ids_and_large_times_are_read(tmp_path):
    (tmp_path / "x.csv").write_text(
        "v,t,id\n1,1e9,7\n3,1e9,10\n2,1000000000.1,7\n4,1000000000.1,10\n"
    )
    points = from_file(path=str(tmp_path / "x.csv"), id="id", time="t", seed=1)
    assert all_points(points) == [[[1.0], [2.0]], [[3.0], [4.0]]]


BAD = {
    "times": (
        "id,t,v\na,0,1\na,1,2\nb,0,3\nb,2,4\n",
        "step 2 of id b at t 2, of id a at t 1:",
    ),
    "twice": ("id,t,v\na,0,1\na,0,2\nb,0,3\nb,1,4\n", "has t 0 of id a twice: leave one out"),
    "no id": ("name,t,v\na,0,1\nb,0,3\n", "no column id: check the names"),
    "no time": ("id,time,v\na,0,1\nb,0,3\n", "has no column t of times: name another"),
    "no values": ("id,t\na,0\nb,0\n", "no column besides id and t: add the values"),
    "no header": ("1,0,1\n1,1,2\n", "its columns have no names to choose by"),
    "one sequence": ("id,t,v\na,0,1\na,1,2\n", "one point"),
    "no rows": ("id,t,v\n", "holds no numbers"),
    "empty id": ("id,t,v\na,0,1\n ,0,2\n", "line 3, column 1 (id) is empty: fill it in"),
    "time in words": ("id,t,v\na,noon,1\nb,0,2\n", "line 2, column 2 (t) is 'noon', not a number"),
    "missing value": ("id,t,v\na,0,1\nb,0,NA\n", "line 3, column 3 (v) is NA, a missing value"),
    "ragged": ("id,t,v\na,0,1\nb,0\n", "line 3 has 2 columns, the first row has 3"),
    "id twice": ("id,id,t,v\na,a,0,1\nb,b,0,2\n", "x.csv occurs twice"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused_in_one_line(command, case):
    text, message = BAD[case]
    Path("x.csv").write_text(text)
    outcome = command("check", "dataset=file", "dataset.path=x.csv", *LONG)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dataset.id=id",), "dataset.id and dataset.time are two columns"),
        (("dataset.time=t",), "dataset.id and dataset.time are two columns"),
        (("dataset.id=t", "dataset.time=t"), "dataset.id and dataset.time are two columns"),
        ((*LONG, "dataset.path=x.npy"), "x.npy has no named columns"),
        (("dataset.path=x.npy", "model=conv1d", "model.depth=4"), "halve a sequence of 8 steps"),
        (("dataset.path=images.npy", "model=lstm"), "takes sequences, (length, channels)"),
    ],
)  # fmt: skip
def test_invalid_options_are_refused_in_one_line(command, words, message):
    Path("x.csv").write_text(table(WAVES))
    np.save("x.npy", WAVES)
    np.save("images.npy", np.random.default_rng(0).random((20, 3, 4, 4)))
    outcome = command("check", "dataset=file", "dataset.path=x.csv", "train.batch_size=4", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.usefixtures("no_pictures")
def test_a_run_on_sequences_scores_each_kind_of_file(command):
    """Trained from the table, it gives the same energies for it and for the array."""
    Path("x.csv").write_text(table(WAVES))
    np.savez("x.npz", x=WAVES)
    outcome = command(
        "dataset=file", "dataset.path=x.csv", *LONG, "dataset.columns=[c0,c1]", "model=lstm",
        "model.width=4", "method.slots=16", "train.steps=3", "train.batch_size=4",
        "samples.count=10", "samples.chains=10", "samples.burn_in=2", "samples.thin=1",
        "diagnostics.chains=4", "diagnostics.draws=8", "diagnostics.thin=1", "quality.points=4",
        "evaluation=sine_waves", "evaluation.points=10", "checkpoint.best=wave_distance",
        "hydra.run.dir=run", "optimizer.schedule.warmup_steps=0",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "p_phase" in json.loads(Path("run/result.json").read_text())["metrics"]
    for name in ("x.csv", "x.npz"):
        assert command("score", "run", "--data", name, "--out", f"{name}.npy").code == 0
    energies = [np.load(f"{name}.npy") for name in ("x.csv", "x.npz")]
    assert energies[0].shape == (12,)
    np.testing.assert_allclose(*energies)
