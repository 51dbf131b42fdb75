"""Samples, log Z and entropy of sparse Potts models, by enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from repeats import assert_mean

from ebmtrain.datasets.potts_samples import SparsePotts, potts_samples
from ebmtrain.errors import ConfigError

EVERY = torch.tensor(list(itertools.product(range(3), repeat=5)), dtype=torch.float64)


def small(contacts: int = 6, n_train: int = 4000, seed: int = 0):
    return potts_samples(
        sites=5, states=3, contacts=contacts, n_train=n_train, n_holdout=10, seed=seed
    )


def log_weight(truth: SparsePotts, x: list[int]) -> float:
    h, j = truth.fields.tolist(), truth.couplings.tolist()
    total = sum(h[i][a] for i, a in enumerate(x))
    return total + sum(j[a][x[a]][b][x[b]] for a, b in itertools.combinations(range(5), 2))


@pytest.mark.parametrize("contacts", [0, 4, 6, 10])
def test_sums_by_elimination_are_those_over_all_states(contacts):
    truth = SparsePotts.random(5, 3, contacts, 0.7, 0.3, 1)
    weights = torch.tensor(
        [log_weight(truth, x.int().tolist()) for x in EVERY], dtype=torch.float64
    )
    log_p = weights - weights.logsumexp(0)
    assert truth.log_z == pytest.approx(float(weights.logsumexp(0)), abs=1e-10)
    torch.testing.assert_close(truth.log_prob(EVERY), log_p, atol=1e-10, rtol=0)
    assert truth.entropy == pytest.approx(-float(log_p.exp() @ log_p), abs=1e-10)


@pytest.mark.parametrize("contacts", [3, 10])
def test_samples_are_independent_and_of_the_model(contacts):
    data = small(contacts)
    assert data.truth is not None
    p = data.truth.log_prob(EVERY).exp()
    code = 3.0 ** torch.arange(4, -1, -1).double()
    counts = torch.bincount((data.train @ code).long(), minlength=len(EVERY)).double()
    # Pearson's chi-squared, of 242 degrees of freedom, within 4.5 standard deviations.
    chi = float(((counts - 4000 * p).square() / (4000 * p)).sum())
    assert abs(chi - 242) < 4.5 * math.sqrt(2 * 242 + float((1 / p).sum()) / 4000)
    for i, j in itertools.combinations(range(5), 2):
        same = (EVERY[:, i] == EVERY[:, j]).double()
        assert_mean((data.train[:, i] == data.train[:, j]).double(), float(p @ same), 4.5)


def test_couplings_are_of_as_many_pairs_as_asked_and_in_the_zero_sum_gauge():
    j = SparsePotts.random(20, 4, 30, 0.7, 0.3, 0).couplings
    interacts = j.abs().amax((1, 3)) > 0
    assert int(interacts.sum()) == 60
    assert torch.equal(j, j.permute(2, 3, 0, 1))
    assert float(j.sum(1).abs().max()) < 1e-12
    assert not interacts.diagonal().any()


def test_what_has_no_exact_sums_is_refused():
    with pytest.raises(ConfigError, match=r"contacts=7 of 4 sites: there are 6 pairs"):
        potts_samples(sites=4, contacts=7, seed=0)
    with pytest.raises(ConfigError, match=r"tables of 20\^\d+ entries.*lower dataset.contacts"):
        potts_samples(states=20, contacts=60, seed=0)
