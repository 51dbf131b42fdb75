"""report.html: what it says of runs, read by a parser of HTML; and that it says nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import re
import stat
from pathlib import Path

import pytest
from hostile_runs import TEXTS, write_hostile_runs
from html_tree import Node, parse
from PIL import Image

from ebmtrain.plots.thumbnail import thumbnail
from ebmtrain.runs.report import pictures
from ebmtrain.runs.report.write import refresh_page, report
from ebmtrain.runs.storage.rundir import RunDir


def page_of(folder: Path) -> Node:
    return parse((folder / "report.html").read_text(encoding="utf-8"))


def data_of(page: Node) -> dict:
    (text,) = page.id("data").children
    assert isinstance(text, str)
    return json.loads(text)


@pytest.fixture
def runs(folder: Path, write_run) -> Path:
    """Two groups of two seeds, one of them with a diverged run, and pictures of three steps."""
    for seed, kl in enumerate((0.1, 0.3)):
        slow = write_run(folder / f"runs/slow{seed}", kl=(2.0, 0.5, kl), seed=seed,
                         warnings=["few steps; raise train.steps"])  # fmt: skip
        for step, colour in ((0, "red"), (10, "blue"), (20, "green")):
            Image.new("RGB", (80, 60), colour).save(slow / f"plots/landscape_{step:08d}.png")
        Image.new("RGB", (80, 60), "black").save(slow / "plots/chains.png")
        write_run(folder / f"runs/fast{seed}", kl=(2.0, 0.4, kl + 1), seed=seed, lr=0.01, n=10)
    write_run(folder / "runs/broken", status="diverged", error="ran away", lr=0.01, seed=2)
    about = RunDir(folder / "runs/slow0").read_json("run.json")
    about["command"] = ["/bin/ebmtrain", "-m", "seed=0,1", "x=a b"]
    RunDir(folder / "runs/slow0").write_json("run.json", about)
    return folder / "runs"


def test_the_verdict_comes_first_with_its_warnings(runs):
    report(runs, quiet=True)
    page = page_of(runs)
    first = next(node for node in page.one("main").children if isinstance(node, Node))
    assert first.attributes["id"] == "verdict"
    assert "Best of 2: optimizer.lr=0.001, KL 0.2000 ± 0.1414 over 2 finished" in first.text
    assert "KL 0.1000 nats KL(data || model), exact by quadrature NLL 2.1000" in first.text
    assert "Warning: few steps; raise train.steps" in first.text
    assert "All 2 warnings" in first.text
    assert page.one("h1").text == "runs"
    assert "runs: 5, of which 4 finished, 1 diverged" in page.one("header").text


def test_the_leaderboard_has_values_error_bars_and_buttons(runs):
    report(runs, quiet=True)
    table = page_of(runs).one("table", **{"class": "board"})
    rows = [[n.text for n in row.walk() if n.tag in ("td", "th")] for row in table.all("tr")]
    assert rows[0][:5] == ["#", "group", "runs", "KL", "± over seeds"]
    assert rows[1][:4] == ["1", "optimizer.lr=0.001", "2", "0.2000 ± 0.1414"]
    assert rows[2][:4] == ["2", "optimizer.lr=0.01", "2 of 3", "1.2000 ± 0.1414"]
    assert all(head.all("button") for head in table.all("th", scope="col") if head.text[0] != "±")
    best, other = (row.one("path").attributes["d"] for row in table.all("tr")[1:])
    numbers = [list(map(float, re.findall(r"[\d.]+", d or ""))) for d in (best, other)]
    (a, _, b), (c, _, d) = numbers
    assert 4 == a < b < c < d == 96
    assert b - a == pytest.approx(d - c, abs=0.05)  # equal deviations


def test_landscapes_have_a_slider_over_their_steps(runs):
    report(runs, quiet=True)
    page = page_of(runs)
    landscapes = page.id("landscapes")
    assert len(landscapes.all("figure")) == 5
    slider = landscapes.one("input", type="range")
    assert json.loads(slider.attributes["data-steps"] or "") == [0, 10, 20]
    assert slider.attributes["aria-valuetext"] == "step 20"
    colours = []
    slow = next(run for run in data_of(page)["runs"] if run["last"] == 20)
    last = landscapes.one("img", data_run=slow["id"]).attributes["src"]
    assert [step for step, _ in slow["frames"]] == [0, 10]
    for uri in [*(uri for _, uri in slow["frames"]), last]:
        with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as picture:
            colour = picture.convert("RGB").resize((1, 1)).getpixel((0, 0))
        colours.append(["red", "blue", "green"][max(range(3), key=lambda i: colour[i * 2 % 3])])
    assert colours == ["red", "blue", "green"]
    assert [f.one("figcaption").text for f in page.id("runs").all("figure")] == ["chains"] * 2


def test_curves_have_the_numbers_of_evaluations_and_of_updates(runs):
    report(runs, quiet=True)
    page = page_of(runs)
    data = data_of(page)
    assert data["metrics"] == ["kl", "nll", "loss"]
    assert [o.attributes["value"] for o in page.id("metric").all("option")] == data["metrics"]
    slow = next(run for run in data["runs"] if run["last"] == 20)
    evaluations, updates = slow["tables"]
    assert evaluations["kl"] == [2.0, 0.5, 0.1]
    assert evaluations["energy_evaluations"] == [0, 1000, 2000]
    assert updates == {"step": [5, 15, 25], "seconds": [5, 15, 25], "loss": [1, 1, 1]}
    broken = next(run for run in data["runs"] if "seed 2" in run["label"])
    assert broken["tables"][0]["loss"] == [None, 1, None, 1, None, 1]  # though it diverged
    assert broken["tables"][0]["kl"] == [2, None, 0.5, None, 0.1, None]
    boxes = page.id("curves").all("input", type="checkbox")
    assert {box.attributes.get("value") for box in boxes if "value" in box.attributes} == {
        run["id"] for run in data["runs"]
    }


def test_each_run_has_its_parts_cost_and_commands(runs):
    report(runs, quiet=True)
    page = page_of(runs)
    each = {d.one("summary").text: d for d in page.id("runs").all("details")}
    slow = each["slow0: finished, warnings: 1"]
    assert "dataset=five_gaussians method=pcd model=mlp" in slow.text
    assert "20 steps, 20.0 s, 2,000 energy evaluations" in slow.text
    codes = [code.text for code in slow.all("code")]
    assert codes == [
        "ebmtrain -m seed=0,1 'x=a b'", "ebmtrain resume runs/slow0 train.steps=40",
    ]  # fmt: skip
    assert "ran away" in each["broken: diverged"].text
    assert each["broken: diverged"].all("code")[-1].text == "ebmtrain resume runs/broken"
    table = page.id("differences").one("table")
    assert [c.text for c in table.all("th", scope="col")] == ["#", "group", "optimizer.lr"]
    assert [r.all("td")[-1].text for r in table.all("tr")[1:]] == ["0.001", "0.01"]


def test_the_page_of_one_run(command, runs):
    outcome = command("report", runs / "slow0")
    assert outcome.code == 0, outcome.err
    assert outcome.lines == [f"page     {runs}/slow0/report.html"]
    page = page_of(runs / "slow0")
    assert page.one("h1").text == "slow0"
    assert "KL 0.1000 nats" in page.id("verdict").text
    rows = {row.one("th").text: row.one("td").text for row in page.id("runs").all("tr")}
    assert (rows["optimizer.lr"], rows["kl"]) == ("0.001", "0.1")
    assert not page.all("table", **{"class": "board"})
    report(runs, quiet=True)
    links = [a.attributes["href"] for a in page_of(runs).id("runs").all("a")]
    assert links == ["slow0/report.html"]


def test_a_run_without_a_result_has_a_page(command, runs):
    (runs / "slow0/result.json").unlink()
    assert command("report", runs / "slow0").code == 0
    assert "No run has finished: killed" in page_of(runs / "slow0").id("verdict").text


@pytest.mark.slow
def test_a_job_of_a_sweep_is_repeated_alone(command, folder, tiny, no_pictures):
    words = ("-m", *tiny, "train.steps=4", "seed=0,1", "hydra.sweep.dir=sweep")
    assert command(*words).code == 0
    page = page_of(folder / "sweep")
    repeated = [d.all("code")[0].text for d in page.id("runs").all("details")]
    assert [text.split()[-1] for text in repeated] == ["seed=0", "seed=1"]
    assert not any("hydra" in text or "-m" in text.split() for text in repeated)


def check_nothing_but_the_template(folder: Path) -> Node:
    """The page has the template's own scripts and styles, no handlers and no foreign address."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = parse(text)
    assert [n.attributes for n in page.all("script")] == [
        {"type": "application/json", "id": "data"}, {}]  # fmt: skip
    policy = page.all("meta")[1].attributes["content"] or ""
    for node, name in ((page.all("script")[1], "script"), (page.one("style"), "style")):
        (content,) = node.children
        assert isinstance(content, str)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    names = {name for node in page.walk() for name in node.attributes}
    assert not [name for name in names if name.startswith("on") or name in ("style", "srcdoc")]
    for node in page.walk():
        if "src" in node.attributes:
            assert re.match(r"data:image/webp;base64,[\w+/=]+$", node.attributes["src"] or "")
        if "href" in node.attributes:
            assert re.match(r"#[\w-]+$|[\w%.~-]+/report\.html$", node.attributes["href"] or "")
    known = set(re.findall(r"<(\w+)", _TEMPLATE.read_text(encoding="utf-8")))
    assert {node.tag for node in page.walk()} <= {*known, "document"}
    return page


_TEMPLATE = Path(pictures.__file__).with_name("page.html")


@pytest.mark.slow
def test_hostile_texts_are_shown_as_text(command, folder, write_run):
    write_hostile_runs(folder / "runs", write_run)
    for path in (folder / "runs").iterdir():
        assert command("report", path).code == 0
        check_nothing_but_the_template(path)
    assert command("report", "runs").code == 0
    page = check_nothing_but_the_template(folder / "runs")
    assert len(page.id("runs").all("details")) == 40
    shown = page.text
    for text in TEXTS[:-1]:
        assert shown.count(" ".join(text.split())) >= 2, text
    assert "\x1b" not in shown
    assert page.one("title").text == "runs: ebmtrain report"


@pytest.mark.slow
def test_many_runs_make_a_small_page(folder, write_run, monkeypatch):
    """Noise is what compresses worst."""
    monkeypatch.setattr(pictures, "_TOTAL_BYTES", 100_000)
    generator = random.Random(0)
    for i in range(12):
        run = write_run(folder / f"runs/{i}", seed=i)
        for step in range(0, 30, 10):
            noise = Image.frombytes("RGB", (400, 300), generator.randbytes(360_000))
            noise.save(run / f"plots/landscape_{step:08d}.png")
    report(folder / "runs", quiet=True)
    page = page_of(folder / "runs")
    uris = [img.attributes["src"] or "" for img in page.all("img")]
    uris += [uri for run in data_of(page)["runs"] for _, uri in run["frames"]]
    assert len(uris) == 36
    assert sum(map(len, uris)) < 1.4 * 100_000


def test_a_thumbnail_has_the_largest_size_that_fits(tmp_path):
    file = tmp_path / "a.png"
    Image.frombytes("RGB", (400, 300), random.Random(0).randbytes(360_000)).save(file)
    sizes = []
    for most in (5_000, 10_000, 30_000):
        data = thumbnail(file, most)
        assert data is not None
        assert len(data) <= most
        with Image.open(io.BytesIO(data)) as picture:
            sizes.append(picture.width)
    assert sizes == sorted(sizes)
    assert thumbnail(file, 10) is None
    file.write_bytes(b"\x89PNG\r\n\x1a\n junk")
    assert thumbnail(file, 10_000) is None


def test_the_page_of_a_sweep_is_replaced_when_it_is_old(runs):
    refresh_page(runs)
    first = (runs / "report.html").stat()
    refresh_page(runs)
    assert (runs / "report.html").stat().st_mtime_ns == first.st_mtime_ns
    os.utime(runs / "report.html", (0, 0))
    refresh_page(runs)
    again = (runs / "report.html").stat()
    assert again.st_mtime_ns > 0
    assert again.st_ino != first.st_ino  # a new file in its place, never a part of one
    assert stat.S_ISREG(again.st_mode)


def test_a_page_that_is_a_link_is_refused(command, runs, folder):
    (folder / "secret").write_text("mine")
    (runs / "report.html").symlink_to(folder / "secret")
    assert command("report", runs).code == 7
    refresh_page(runs)
    assert (folder / "secret").read_text() == "mine"


def test_open_shows_the_page_in_the_browser_of_the_user(command, runs, monkeypatch, folder):
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {folder}/opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    outcome = command("report", runs, "--open")
    assert outcome.code == 0, outcome.err
    assert (folder / "opened").read_text() == (runs / "report.html").as_uri()


@pytest.mark.slow
def test_a_run_ends_with_its_page(command, folder, tiny, no_pictures):
    words = (*tiny, "train.steps=4", "hydra.run.dir=run", "plots.every=2")
    outcome = command(*words)
    assert outcome.code == 0, outcome.err
    assert any(line.endswith("run/report.html") for line in outcome.lines)
    page = page_of(folder / "run")
    assert "KL" in page.id("verdict").text
    (repeat, resume) = (code.text for code in page.id("runs").all("code"))
    assert resume == "ebmtrain resume run train.steps=8"
    assert repeat.startswith("ebmtrain ")
