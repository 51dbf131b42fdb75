"""Figure of chain diagnostics: the contents of each panel, for chains that mix and that do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ebmtrain.evaluation.estimators.mixing import autocorrelation, ess_growth, mixing
from ebmtrain.plots.chains import ChainSummary, chains
from ebmtrain.plots.encode import encode_png

LIMITS = {"rhat": 1.1, "ess": 400}


def shown(series: np.ndarray, ages: np.ndarray | None = None) -> ChainSummary:
    names = ["energy", *(f"coordinate {i}" for i in range(1, len(series)))]
    rhat = mixing(series).rhat
    lengths = [25, 50, 100]
    correlations = np.stack([autocorrelation(trace, 25) for trace in series])
    bulk, tail = ess_growth(series[int(rhat.argmax())], lengths)
    return ChainSummary(
        names, series, "units of x", 5, rhat, correlations, lengths, bulk, tail, ages
    )


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def panels(figure) -> dict[str, Any]:
    return {axes.get_title().split(":")[0].split(" (")[0]: axes for axes in figure.axes}


def test_values_of_the_panels():
    ages = np.array([0, 5, 5, 20])
    found = panels(chains(shown(noise(3, 16, 100), ages), LIMITS, "title"))
    assert set(found) == {
        "energy", found_coordinate(found), "autocorrelation about the mean of all chains",
        "effective sample size", "split R-hat", "ages of the persistent chains",
    }  # fmt: skip
    trace = found["energy"].lines[0]
    assert list(trace.get_xdata()[:2]) == [5, 10]  # in steps
    bars = found["ages of the persistent chains"].patches
    assert sum(bar.get_height() for bar in bars) == len(ages)
    growing = found["effective sample size"].lines[0].get_xdata()
    assert list(growing) == [400, 800, 1600]  # draws of all 16 chains


@pytest.mark.parametrize(("k", "updates"), [(5, 1), (5, 47), (3, 1000), (1, 200)])
def test_every_bin_of_the_ages_holds_as_many_possible_ages(k, updates):
    """Ages are multiples of k steps. One chain of each age: all bars but the last are equal."""
    ages = k * np.arange(updates)
    found = panels(chains(shown(noise(2, 4, 100), ages), LIMITS))
    heights = [bar.get_height() for bar in found["ages of the persistent chains"].patches]
    assert sum(heights) == updates
    assert len(set(heights[:-1])) <= 1
    assert 0 < heights[-1] <= heights[0]
    assert len(heights) <= 30


def found_coordinate(found) -> str:
    (name,) = (title for title in found if title.startswith("coordinate"))
    return name


def test_a_quantity_that_does_not_mix_is_marked():
    """One coordinate of three is stuck: its trace is drawn, its R-hat has another colour, and its
    curve is the first of the legend.
    """
    series = noise(4, 16, 100)
    series[2] += np.where(np.arange(16) < 8, -5.0, 5.0)[:, None]
    found = panels(chains(shown(series), LIMITS))
    assert found_coordinate(found) == "coordinate 2"
    assert "ages of the persistent chains" not in found
    colours = found["split R-hat"].collections[0].get_facecolors()
    assert [tuple(c) != tuple(colours[0]) for c in colours] == [False, False, True, False]
    legend = found["autocorrelation about the mean of all chains"].get_legend().get_texts()
    assert legend[0].get_text() == "coordinate 2"


@pytest.mark.slow
@pytest.mark.parametrize("quantities", [2, 9])
def test_any_number_of_quantities_and_few_chains(quantities):
    figure = chains(shown(noise(quantities, 4, 100), np.zeros(4, int)), LIMITS)
    assert encode_png(figure, 30)
