"""The contact sheet of landscapes and the curves of a report."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from ebmtrain.plots.comparison import (
    GROUP_COLOURS,
    MIN_LOG_NATS,
    DatasetCurves,
    _median_curve,
    comparison,
)
from ebmtrain.plots.contact_sheet import FONT, TEXT_PX, Tile, _wrap_two_lines, contact_sheet

LONG = " ".join(f"section.option{i}=0.00012345" for i in range(8))


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data)).convert("RGB")


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_a_contact_sheet_shows_every_picture_once(tmp_path: Path, count):
    """Each picture has its own colour, which occurs on the sheet."""
    tiles = []
    for i in range(count):
        Image.new("RGB", (340, 320), (200, 8 * i, 40)).save(tmp_path / f"{i}.png")
        tiles.append(Tile(tmp_path / f"{i}.png", f"#{i}", LONG))
    picture = opened(contact_sheet(tiles, "3 of 9 are not shown"))
    colours = picture.getcolors(1_000_000)
    assert colours is not None
    areas = {colour: area for area, colour in colours}
    shown = [areas[200, 8 * i, 40] for i in range(count)]
    assert min(shown) > 80_000
    assert max(shown) == min(shown)


def test_an_empty_contact_sheet_has_a_message():
    assert (np.asarray(opened(contact_sheet([]))) < 200).any()


@pytest.mark.parametrize("text", ["short", LONG, "x" * 400, "", "word " + "y" * 90])
def test_captions_fit_above_their_picture(text):
    font = ImageFont.truetype(str(FONT), TEXT_PX)
    lines = _wrap_two_lines(text, font, 320)
    assert len(lines) <= 2
    assert all(font.getlength(line) <= 320 for line in lines)
    assert "".join(lines).startswith(text[:20])
    assert "".join(lines).endswith(text[-20:])


def test_median_is_over_the_range_of_all_seeds():
    lines = [np.array([[0.0, 1.0], [10.0, 3.0]]), np.array([[4.0, 5.0], [20.0, 5.0]]),
             np.array([[0.0, 0.0], [20.0, 20.0]])]  # fmt: skip
    assert _median_curve(lines, log=False).tolist() == [[4.0, 4.0], [10.0, 5.0]]
    apart = [np.array([[0.0, 1.0]]), np.array([[5.0, 1.0]])]
    assert len(_median_curve(apart, log=True)) == 0


def test_one_colour_per_group_and_grey_for_the_others():
    n = len(GROUP_COLOURS) + 3
    groups = {f"{i}  {LONG}$": [[(0.0, 2.0), (5.0 + s, -0.1)] for s in range(2)] for i in range(n)}
    figure = comparison(
        [DatasetCurves("moons", "regret", {"steps": groups, "seconds": groups}, True)]
    )
    left, right = figure.axes
    assert len(left.lines) == 3 * n
    legend = right.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][-1] == "3 others"
    assert len(legend.get_texts()) == len(GROUP_COLOURS) + 1
    assert min(line.get_ydata().min() for line in left.lines) == MIN_LOG_NATS
    assert "not below 0.001" in left.get_ylabel()
    figure.canvas.draw()


def test_costs_of_different_magnitude_have_a_logarithmic_axis():
    groups = {"a": [[(0.0, 1.0), (10.0, 0.1)]], "b": [[(0.0, 1.0), (1e4, 0.1)]]}
    (axes,) = comparison([DatasetCurves("moons", "kl", {"steps": groups}, True)]).axes
    assert axes.get_xscale() == "log"
    assert all((line.get_xdata() > 0).all() for line in axes.lines)


def test_no_curves():
    (said,) = comparison([]).texts
    assert said.get_text() == "no run was evaluated while it trained"
    (axes,) = comparison([DatasetCurves("moons", "kl", {"seconds": {}}, True)]).axes
    assert axes.get_title() == "moons"
    assert not axes.lines
