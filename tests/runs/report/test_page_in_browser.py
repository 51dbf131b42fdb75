"""report.html in Debian's Chromium: each control changes what it should, and nothing is loaded or
executed but the page's own script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, DRIVER, MISSING, Browser, browser
from hostile_runs import TEXTS, write_hostile_runs
from PIL import Image

from ebmtrain.runs.report.write import report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING),
]


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def page(folder: Path, write_run, window) -> Browser:
    """The page of two groups of two seeds, with pictures of two steps."""
    for seed in (0, 1):
        for name, lr, kl in (("slow", 1e-3, 0.1), ("fast", 1e-2, 1.1)):
            run = write_run(folder / f"runs/{name}{seed}", lr=lr, seed=seed, kl=(3.0, 2.0, kl))
            for step in (0, 20):
                Image.new("RGB", (80, 60), "red").save(run / f"plots/landscape_{step:08d}.png")
    report(folder / "runs", quiet=True)
    window.open(folder / "runs/report.html")
    return window


def texts(page: Browser, selector: str) -> list[str]:
    return page.run(
        "return [...document.querySelectorAll(arguments[0])].map((n) => n.textContent.trim())",
        selector,
    )


def count(page: Browser, selector: str) -> int:
    return len(texts(page, selector))


def test_nothing_is_loaded_and_no_error_is_told(page):
    assert page.console() == []
    assert [a.rpartition("/")[2] for a in page.requests()] == ["report.html"]


def test_a_click_on_a_heading_sorts(page):
    assert texts(page, ".board tbody tr td:first-child") == ["1", "2"]
    page.click(".board th:nth-child(4) button")  # KL
    assert texts(page, ".board tbody tr td:first-child") == ["1", "2"]
    page.click(".board th:nth-child(4) button")
    assert texts(page, ".board tbody tr td:first-child") == ["2", "1"]
    assert texts(page, "th[aria-sort=descending]") == ["KL"]
    page.type(".board th:nth-child(2) button", "\ue007")  # Enter, on the names
    assert texts(page, ".board tbody tr th") == ["optimizer.lr=0.001", "optimizer.lr=0.01"]


def test_the_filter_hides_runs_everywhere(page):
    page.type("#filter", "fast seed")
    assert texts(page, "#found") == ["0 of 4 runs"]
    page.run("document.getElementById('filter').value = ''")
    page.type("#filter", "Fast1")
    assert texts(page, "#found") == ["1 of 4 runs"]
    assert texts(page, ".board tbody tr:not([hidden]) th") == ["optimizer.lr=0.01"]
    assert count(page, "#landscapes figure:not([hidden])") == 1
    assert count(page, "#chart path") == 1


def test_the_slider_changes_the_landscapes(page):
    sources = "return [...document.querySelectorAll('img[data-run]')].map((n) => n.src)"
    last = page.run(sources)
    page.type("input[type=range]", "\ue012")  # the arrow to the left
    assert texts(page, "#landscapes output") == ["0"]
    assert texts(page, ".step") == ["step 0"] * 4
    page.type("input[type=range]", "\ue014")
    assert page.run(sources) == last
    assert texts(page, "#landscapes output") == ["20"]


def test_curves_follow_the_metric_the_axis_and_the_runs(page):
    assert count(page, "#chart path") == 4
    assert "Runs: 4; lowest last value 0.1: #1 optimizer.lr=0.001" in texts(page, "#shown")[0]
    shape = page.run("return document.querySelector('#chart path').getAttribute('d')")
    assert len(re.findall("[ML]", shape)) == 3
    page.click("#log")  # off
    assert page.run("return document.querySelector('#chart path').getAttribute('d')") != shape
    page.type("#metric", "NLL")
    page.type("#axis", "energy")
    label = page.run("return document.getElementById('chart').getAttribute('aria-label')")
    assert label == "NLL against energy evaluations of 4 runs"
    page.click(".choices input")
    assert count(page, "#chart path") == 3
    page.click("#none")
    assert count(page, "#chart path") == 0
    assert texts(page, "#shown") == ["No chosen run has this metric."]
    page.click("#all")
    assert count(page, "#chart path") == 4


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(page):
    names = page.run(
        """const found = document.querySelectorAll("input, select, button, [role=region], nav");
        return [...found].map((n) => [n.tabIndex,
          n.getAttribute("aria-label") ?? n.labels?.[0]?.textContent ?? n.textContent])"""
    )
    assert all(name.strip() for _, name in names)
    assert [index for index, _ in names].count(-1) == 1  # the landmark alone


CONTRAST = """
const rgb = (text) => text.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
const light = (text) => rgb(text).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const back = light(getComputedStyle(document.body).backgroundColor);
const text = [document.body, ...document.querySelectorAll(".quiet, a")];
const node = document.createElementNS("http://www.w3.org/2000/svg", "svg");
document.body.append(node);
const lines = [0, 1, 2, 3, 4, 5, 6].map((i) => {
  node.setAttribute("class", `k${i}`);
  return ratio(light(getComputedStyle(node).stroke), back);
});
const words = text.map((n) => ratio(light(getComputedStyle(n).color), back));
return [back, Math.min(...words), Math.min(...lines)];
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_lines_have_contrast_in_light_and_dark(page, folder, dark):
    """4.5 for text and 3 for lines, as WCAG 2.2 asks at level AA."""
    with browser(dark=dark) as other:
        other.open(folder / "runs/report.html")
        back, text, lines = other.run(CONTRAST)
    assert (back < 0.2) == dark
    assert text >= 4.5
    assert lines >= 3


def test_without_scripts_the_page_has_its_facts(page, folder):
    with browser(script=False) as other:
        other.open(folder / "runs/report.html")
        assert "0.1000" in "".join(texts(other, ".board"))
        assert count(other, "#landscapes img") == 4
        assert count(other, "#chart path") == 0  # no script ran


def test_hostile_texts_are_shown_and_not_executed(folder, write_run, window):
    write_hostile_runs(folder / "runs", write_run)
    report(folder / "runs", quiet=True)
    window.console(), window.requests()
    window.open(folder / "runs/report.html")
    assert window.run("return window.pwned === undefined")
    assert window.console() == []
    assert [a.rpartition("/")[2] for a in window.requests()] == ["report.html"]
    assert count(window, "#runs > details") == 40
    window.run("for (const d of document.querySelectorAll('details')) d.open = true")
    shown = window.run("return document.getElementById('runs').innerText")
    assert sum(text in shown for text in TEXTS) >= len(TEXTS) - 1
    window.type("#filter", TEXTS[0])
    assert texts(window, "#found") != ["0 of 40 runs"]
    assert window.console() == []
