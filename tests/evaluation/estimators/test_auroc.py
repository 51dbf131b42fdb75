"""AUROC against its definition, and its standard error against repetitions."""

from __future__ import annotations

import math

import pytest
import torch

from ebmtrain.evaluation.estimators.auroc import auroc


@pytest.mark.parametrize("levels", [3, 10_000])
def test_equals_the_fraction_of_ordered_pairs(levels):
    """Over all pairs, with many ties and with few."""
    draw = torch.Generator().manual_seed(0)
    usual = torch.randint(levels, (70,), generator=draw).double()
    unusual = torch.randint(levels, (40,), generator=draw).double() + levels // 5
    pairs = unusual[:, None] - usual[None, :]
    expected = ((pairs > 0).double() + (pairs == 0).double() / 2).mean()
    assert auroc(usual, unusual)[0] == pytest.approx(float(expected), abs=1e-12)
    assert auroc(unusual, usual)[0] == pytest.approx(1 - float(expected), abs=1e-12)


def test_separated_and_equal_scores():
    low, high = torch.tensor([1.0, 2.0]), torch.tensor([3.0])
    assert auroc(low, high)[0] == 1.0
    assert auroc(high, low)[0] == 0.0
    assert auroc(low, low)[0] == 0.5
    assert auroc(torch.zeros(5), torch.zeros(7))[0] == 0.5


def test_nan_scores_give_nan():
    """NaN must not be sorted as the largest score."""
    some, nan = torch.tensor([1.0, 2.0]), torch.tensor([torch.nan, 1.0])
    assert all(map(math.isnan, (*auroc(some, nan), *auroc(nan, some))))
    assert auroc(some, torch.tensor([torch.inf]))[0] == 1.0


@pytest.mark.parametrize(("n_usual", "n_unusual"), [(60, 30), (20, 400), (400, 20)])
def test_standard_error_matches_repetitions(n_usual, n_unusual):
    """The unusual scores are three times as wide, so that the two variances are different."""
    draw = torch.Generator().manual_seed(1)
    found = []
    for _ in range(400):
        usual = torch.randn(n_usual, generator=draw)
        found.append(auroc(usual, 3 * torch.randn(n_unusual, generator=draw) + 1))
    values, errors = torch.tensor(found).T
    # The spread of 400 repeats is known to 1 / sqrt(2 * 400) of itself.
    assert float(errors.mean() / values.std()) == pytest.approx(1, abs=4 * (1 / 800) ** 0.5)
