"""Ising models on a torus by transfer matrices: log Z and samples are those of enumeration."""

from __future__ import annotations

import itertools

import pytest
import torch
from repeats import assert_mean, seeded

from ebmtrain.torus import Torus, torus_bonds


def spins(sites: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=sites)), dtype=torch.float64)


def random_torus(rows: int, columns: int) -> Torus:
    g = seeded(1)
    parts = (torch.randn(rows, columns, generator=g, dtype=torch.float64) for _ in range(3))
    return Torus(*(0.4 * part for part in parts))


def log_weights(torus: Torus, s: torch.Tensor) -> torch.Tensor:
    """By loops over the bonds, (n,)."""
    rows, columns = torus.field.shape
    total = torch.zeros(len(s), dtype=torch.float64)
    for r, c in itertools.product(range(rows), range(columns)):
        here = s[:, r, c]
        total += torus.right[r, c] * here * s[:, r, (c + 1) % columns]
        total += torus.down[r, c] * here * s[:, (r + 1) % rows, c] + torus.field[r, c] * here
    return total


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (3, 4), (4, 3)])
def test_log_z_is_the_sum_over_all_states(rows, columns):
    torus = random_torus(rows, columns)
    total = log_weights(torus, spins(rows * columns).view(-1, rows, columns)).logsumexp(0)
    assert torus.log_z == pytest.approx(float(total), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sigma", "log_z"),
    [(0.1, 73.4531), (0.2, 88.1877), (0.3, 121.7064), (0.4, 160.8742), (0.5, 200.7280)],
)
def test_log_z_of_ten_by_ten_sites(sigma, log_z):
    """Of E(s) = -s'Js, by another program."""
    bonds = torch.full((10, 10), 2 * sigma, dtype=torch.float64)
    assert Torus(bonds, bonds, torch.zeros_like(bonds)).log_z == pytest.approx(log_z, abs=1e-4)


def test_samples_follow_the_distribution():
    torus, s = random_torus(3, 4), spins(12).view(-1, 3, 4)
    p = torch.softmax(log_weights(torus, s), 0)
    x = torus.sample(5000, seeded(2))
    assert x.shape == (5000, 3, 4)
    right, down = torus_bonds(3, 4)
    for neighbours in (right, down, torch.arange(12).roll(5)):
        for site in range(12):
            mean = float(p @ (s.flatten(1)[:, site] * s.flatten(1)[:, neighbours[site]]))
            assert_mean(x.flatten(1)[:, site] * x.flatten(1)[:, neighbours[site]], mean, 4.5)
    for site in range(12):
        assert_mean(x.flatten(1)[:, site], float(p @ s.flatten(1)[:, site]), 4.5)
