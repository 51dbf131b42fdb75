"""`ebmtrain report DIR`: of any folder of runs, whatever is in it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image
from processes import HANG_S

from ebmtrain.cli import report as verb
from ebmtrain.plots.comparison import comparison
from ebmtrain.runs.report.collect import read_entries

FILES = ("summary.csv", "summary.md", "landscapes.png", "curves.png", "report.html")


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "summary.csv").open(newline="") as file:
        return {row["job"]: row for row in csv.DictReader(file)}


def test_runs_are_found_at_any_depth(command, folder: Path, write_run):
    for i, kl in enumerate((0.1, 0.3)):
        write_run(folder / f"runs/a/slow{i}", kl=(2.0, 0.5, kl), seed=i)
        write_run(folder / f"runs/fast{i}", kl=(2.0, 0.4, kl + 1), seed=i, lr=0.01, n=10)
    write_run(folder / "runs/broken", status="diverged", error="ran | away", lr=0.01, seed=2)
    outcome = command("report", "runs", "--sort", "kl")
    assert outcome.code == 0, outcome.err
    assert {name for name in FILES if (folder / "runs" / name).stat().st_size} == set(FILES)
    table = [line.split() for line in outcome.lines]
    assert ["1", "optimizer.lr=0.001", "2", "0.2000", "±", "0.1414"] in [row[:6] for row in table]
    assert ["2", "optimizer.lr=0.01", "2", "of", "3", "1.2000"] in [row[:6] for row in table]
    assert "within 200 energy evaluations, which all have reached; #2 went no" in outcome.out
    assert ["broken", "diverged", "ran", "|", "away", "20"] in table
    rows = rows_of(folder / "runs")
    assert set(rows) == {"a/slow0", "a/slow1", "fast0", "fast1", "broken"}
    first = rows["a/slow0"]
    assert (first["group"], first["seed"], first["kl"]) == ("optimizer.lr=0.001", "0", "0.1")
    assert "mode_weights" not in first  # a list
    text = (folder / "runs/summary.md").read_text()
    assert "| broken | diverged | ran \\| away | 20 |" in text
    assert "![landscapes.png](landscapes.png)" in text


@pytest.mark.parametrize(
    ("words", "metric"),
    [((), "kl"), (("--sort", "nll"), "nll"), (("--sort", "seconds"), "kl")],
)
def test_the_curves_show_the_metric_that_the_table_sorts_by(
    command, folder: Path, write_run, monkeypatch, words, metric
):
    """Both runs have KL and NLL at every evaluation; a cost is an axis and never a curve."""
    shown = []

    def record(curves, note=""):
        shown.extend(curves)
        return comparison(curves, note)

    monkeypatch.setattr("ebmtrain.plots.comparison.comparison", record)
    for seed in (0, 1):
        write_run(folder / f"runs/{seed}", seed=seed)
    assert command("report", "runs", *words).code == 0
    (curves,) = shown
    (lines,) = curves.panels["energy evaluations"].values()
    assert [y for _, y in lines[0]] == [value + 2 * (metric == "nll") for value in (2.0, 0.5, 0.1)]
    assert curves.metric.lower().startswith(metric)


def test_tables_and_figures_have_each_number_in_its_place(
    command, folder: Path, write_run, monkeypatch
):
    """Costs of 100 evaluations and one second per step; the tiles show the metric of the table."""
    curves, tiles = [], []
    monkeypatch.setattr(
        "ebmtrain.plots.comparison.comparison",
        lambda found, note="": curves.extend(found) or comparison(found, note),
    )
    monkeypatch.setattr(
        "ebmtrain.plots.contact_sheet.contact_sheet",
        lambda found, footer="": tiles.extend(found) or b"",
    )
    write_run(folder / "runs/a", kl=(2.0, 0.5, 0.1))
    write_run(folder / "runs/b", kl=(2.0, 0.6, 0.3), lr=0.01)
    outcome = command("report", "runs", "--sort", "nll")
    assert outcome.code == 0, outcome.err
    row = rows_of(folder / "runs")["b"]
    costs = [float(row[name]) for name in ("step", "energy_evaluations", "seconds")]
    assert costs == [20, 2000, 20]
    (dataset,) = curves
    (line,) = dataset.panels["energy evaluations"]["1  optimizer.lr=0.001"]
    assert line == [(0, 4.0), (1000, 2.5), (2000, 2.1)]
    (line,) = dataset.panels["seconds of training"]["2  optimizer.lr=0.01"]
    assert line == [(0, 4.0), (10, 2.6), (20, 2.3)]
    assert [tile.head.split("  ")[:2] for tile in tiles] == [["#1", "nll 2.1"], ["#2", "nll 2.3"]]
    tiles.clear()
    assert command("report", "runs").code == 0
    assert [tile.head.split("  ")[:2] for tile in tiles] == [["#1", "kl 0.1"], ["#2", "kl 0.3"]]
    words = outcome.out.split("five_gaussians at equal energy evaluations")[1].split("Runs")[0]
    cells = [line.split() for line in words.splitlines() if line[:1] in "12" and line.strip()]
    expected = [[kl, cost] for cost in ("2,000", "20.0") for kl in ("2.1000", "2.3000")]
    assert [row[3:] for row in cells] == expected


def test_rows_without_a_metric_are_no_evaluations(write_run, folder: Path):
    """The rows of the updates between the evaluations have no metric of the result."""
    write_run(folder / "runs/a")
    (run,) = read_entries(folder / "runs")
    assert [row["step"] for row in run.curve] == [0, 10, 20]
    assert all({"kl", "nll", "seconds", "energy_evaluations"} <= set(row) for row in run.curve)


def test_invalid_arguments_are_refused(command, folder: Path, write_run):
    (folder / "empty").mkdir()
    write_run(folder / "runs/one")
    for words, saying in [
        ([], f"expected one folder of runs, got 0; usage: {verb.USAGE}"),
        (["nowhere"], "nowhere is not a directory"),
        (["empty"], "there are no runs below empty: give a sweep, or outputs"),
        (["runs", "--sort", "kll"], "no finished run has the metric kll; did you mean kl?"),
        (["runs", "--srt", "kl"], "unknown flag --srt; did you mean --sort?"),
    ]:
        outcome = command("report", *words)
        assert outcome.code == 2
        (line,) = outcome.err.splitlines()
        assert saying in line
    assert not any(
        (folder / place / name).exists() for name in FILES for place in ("runs", "empty")
    )


@pytest.mark.slow
def test_a_sweep_ends_with_its_report(command, folder: Path, tiny, no_pictures):
    words = ("-m", *tiny, "train.steps=4", "seed=0,1", "optimizer.lr=1e-3,1e-2")
    swept = command(*words, "hydra.sweep.dir=sweep")
    assert swept.code == 0, swept.err
    written = {name: (folder / "sweep" / name).read_bytes() for name in FILES[:2]}
    assert len(rows_of(folder / "sweep")) == 4
    assert "at equal energy evaluations" in swept.out
    shown = command("report", "sweep")
    assert shown.code == 0
    assert {name: (folder / "sweep" / name).read_bytes() for name in written} == written
    assert shown.lines[:-3] == swept.lines[4:-1]  # after the jobs, before the last words


# Damage and malice. Each is done to a run beside a good one.


def replace_file(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def result_with(**changes: object):
    def change(run: Path) -> None:
        path = run / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def file_of(name: str, data: bytes):
    return lambda run: replace_file(run / name, data)


def link(name: str):
    def change(run: Path) -> None:
        outside = run.parent.parent / "outside"
        outside.mkdir()
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside)

    return change


def pipe(name: str):
    def change(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return change


BAD = {
    "no JSON": (file_of("result.json", b"{"), "cannot be read"),
    "a list": (file_of("result.json", b"[1]"), "is not a mapping"),
    "deep": (file_of("result.json", b"[" * 100_000), "cannot be read"),
    "large": (file_of("result.json", b" " * 5_000_000), "5,000,000 bytes, and at most 1,000,000"),
    "status": (result_with(status="\x1b[2J"), "no status of finished"),
    "metrics": (result_with(metrics=[1]), "are no mapping"),
    "a metric": (result_with(metrics={"kl": "0.1"}), "kl is no number"),
    "a name": (result_with(metrics={"\x1b[2J": 1.0}), "a name that ebmtrain gives to none"),
    "seconds": (result_with(seconds=-1), "seconds is negative"),
    "config": (file_of("config.yaml", b"- 1"), "is not a mapping"),
    "a tag": (file_of("config.yaml", b"x: !!python/object:os.system {}"), "it has the tag"),
    "no config": (lambda run: (run / "config.yaml").unlink(), "it has no config.yaml"),
    "rows": (file_of("metrics.jsonl", b"[1]\n"), "a line that is no row of metrics"),
    "deep rows": (file_of("metrics.jsonl", b"[" * 100_000 + b"\n"), "no row of metrics"),
    "a row": (file_of("metrics.jsonl", b'{"step": 1, "kl": "x"}\n'), "kl is no number"),
    "linked file": (link("result.json"), "is a link"),
    "linked plots": (link("plots/x"), "is a link"),
    "a pipe": (pipe("config.yaml"), "config.yaml is a pipe"),
}  # fmt: skip
ODD = {
    "a step": result_with(step=[1]),
    "not finite": file_of("metrics.jsonl", b'{"step": NaN, "kl": Infinity, "seconds": 1e999}\n'),
    "huge": result_with(metrics={"kl": 10**400, "nll": None}),
    "cut": file_of("metrics.jsonl", b'{"step": 1, "kl": 0.1}\n{"st'),
    "no text": file_of("metrics.jsonl", b"\xff\xfe\x00"),
    "picture": file_of("plots/landscape_final.png", b"\x89PNG\r\n\x1a\n junk"),
    "pipe of rows": pipe("metrics.jsonl"),
    "pipe of pictures": pipe("plots/landscape_final.png"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", [*BAD, *ODD])
def test_an_invalid_run_is_reported_as_unreadable(command, folder: Path, write_run, case):
    write_run(folder / "runs/good")
    change, reason = BAD[case] if case in BAD else (ODD[case], "")
    change(write_run(folder / "runs/other"))
    outcome = command("report", "runs")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    rows = rows_of(folder / "runs")
    assert rows["good"]["status"] == "finished"
    if case in BAD:
        assert rows["other"]["status"] == "unreadable"
        assert reason in rows["other"]["error"]
        assert str(folder) not in rows["other"]["error"]
    for shown in (outcome.out, (folder / "runs/summary.md").read_text()):
        assert "\x1b" not in shown
    if (folder / "outside").exists():
        assert list((folder / "outside").iterdir()) == []


def test_links_are_not_followed(command, folder: Path, write_run):
    write_run(folder / "elsewhere/run")
    write_run(folder / "runs/good")
    (folder / "runs/linked").symlink_to(folder / "elsewhere")
    (folder / "runs/loop").symlink_to(folder / "runs")
    assert command("report", "runs").code == 0
    rows = rows_of(folder / "runs")
    assert {name: row["status"] for name, row in rows.items()} == {
        "good": "finished", "linked": "unreadable", "loop": "unreadable"}  # fmt: skip
    assert "not followed" in rows["linked"]["error"]


def test_a_report_file_that_is_a_link_is_refused(command, folder: Path, write_run):
    write_run(folder / "runs/good")
    (folder / "secret").write_text("mine")
    (folder / "runs/summary.md").symlink_to(folder / "secret")
    outcome = command("report", "runs")
    assert outcome.code == 7
    assert "runs/summary.md is a link" in outcome.err
    assert (folder / "secret").read_text() == "mine"


def test_markup_in_names_is_escaped(command, folder: Path, write_run):
    name = "[red]a|b\x1b[2J\n<img>"
    write_run(folder / "runs" / name, error="[/] `x`", status="failed")
    outcome = command("report", "runs")
    assert outcome.code == 0, outcome.err
    assert "[red]a|b?[2J <img>" in outcome.out
    text = (folder / "runs/summary.md").read_text()
    assert r"\[red\]a\|b?\[2J \<img\>" in text


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def test_an_enormous_picture_is_replaced_by_a_gray_area(command, folder: Path, write_run):
    claims = write_run(folder / "runs/claims")
    size = (60_000).to_bytes(4, "big")
    header = chunk(b"IHDR", size + size + b"\x08\x02\x00\x00\x00")
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b""))
    replace_file(claims / "plots/landscape_final.png", bomb)
    large = write_run(folder / "runs/large", seed=1)
    Image.new("L", (5000, 5000), 10).save(large / "plots/landscape_final.png")
    write_run(folder / "runs/good", seed=2)
    assert command("report", "runs").code == 0
    with Image.open(folder / "runs/landscapes.png") as picture:
        colours = picture.convert("RGB").getcolors(100_000)
    assert colours is not None
    areas = {colour: area for area, colour in colours}
    assert areas[221, 221, 221] > 2 * 80_000  # two grey ones
    assert areas[0, 128, 0] == 80 * 60
    assert areas.get((10, 10, 10), 0) < 1000


def test_unfinished_runs_have_their_status(command, folder: Path, write_run):
    for status in ("interrupted", "running"):
        write_run(folder / "runs" / status, status=status)
    (write_run(folder / "runs/killed") / "result.json").unlink()
    outcome = command("report", "runs")
    assert outcome.code == 0
    rows = rows_of(folder / "runs")
    assert {name: row["status"] for name, row in rows.items()} == {
        name: name for name in ("interrupted", "running", "killed")}  # fmt: skip
    assert "ebmtrain resume" in rows["running"]["error"]
    assert all((folder / "runs" / name).exists() for name in FILES)


def test_the_files_are_written_if_the_reader_of_the_output_closes_it(folder: Path, write_run):
    """As `| head -1` does; here before the first line."""
    write_run(folder / "runs/a")
    read, write = os.pipe()
    os.close(read)
    arguments = [sys.executable, "-m", "ebmtrain", "report", "runs"]
    done = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, timeout=HANG_S)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    assert {name for name in FILES if (folder / "runs" / name).stat().st_size} == set(FILES)
