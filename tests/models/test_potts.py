"""The Potts model is that of its definition; its sweeps leave it invariant."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from repeats import assert_mean, seeded

from ebmtrain.models.potts import Potts, log_frequencies, zero_sum
from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.gibbs import Gibbs

SITES, STATES = 4, 3
EVERY = torch.tensor(list(itertools.product(range(STATES), repeat=SITES)), dtype=torch.float64)


def small_potts(std: float = 0.6) -> Potts:
    model = Potts(event_shape=(SITES,), states=STATES).double()
    for p in model.parameters():
        p.data = std * torch.randn(p.shape, generator=seeded(3), dtype=torch.float64)
    return model.requires_grad_(False)


def energy_by_loops(model: Potts, x: list[int]) -> float:
    h, j = model.fields.tolist(), model.couplings.tolist()
    pairs = itertools.combinations(range(SITES), 2)
    total = -sum(h[i][x[i]] for i in range(SITES))
    return total - sum(j[a][x[a]][b][x[b]] for a, b in pairs)


def test_the_energy_counts_each_pair_once():
    model = small_potts()
    found = model(EVERY)
    for x, e in zip(EVERY[::7], found[::7], strict=True):
        assert float(e) == pytest.approx(energy_by_loops(model, x.int().tolist()), abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_conditional_probabilities_are_ratios(temperature):
    model = small_potts()
    p = torch.softmax(-model(EVERY) / temperature, 0)
    found = model.conditional_nll(EVERY[10:13], torch.tensor([2, 0]), temperature)
    for row, x in enumerate(EVERY[10:13]):
        for column, site in enumerate((2, 0)):
            rest = torch.arange(SITES) != site
            same = (EVERY[:, rest] == x[rest]).all(1)
            share = p[(x == EVERY).all(1)].sum() / p[same].sum()
            assert float(found[row, column]) == pytest.approx(-math.log(float(share)), abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_sweep_leaves_the_distribution_invariant(temperature):
    model = small_potts()
    p = torch.softmax(-model(EVERY) / temperature, 0)
    first = EVERY[torch.randint(len(EVERY), (4000,), generator=seeded())]
    x = run_chain(Gibbs(temperature=temperature), model, first, 20, seeded(1)).x
    assert_mean(model(x), float(p @ model(EVERY)), 4.5)
    for i, a in itertools.product(range(SITES), range(STATES)):
        assert_mean((x[:, i] == a).double(), float(p @ (EVERY[:, i] == a).double()), 4.5)
        both = (EVERY[:, i] == a) & (EVERY[:, (i + 1) % SITES] == 1)
        drawn = (x[:, i] == a) & (x[:, (i + 1) % SITES] == 1)
        assert_mean(drawn.double(), float(p @ both.double()), 4.5)


def test_annealed_energies_go_from_the_frequencies_to_the_model():
    model, logits = small_potts(), log_frequencies(EVERY[:40], STATES)
    independent = torch.stack([logits[i, EVERY[:, i].long()] for i in range(SITES)]).sum(0)
    assert float(independent.logsumexp(0)) == pytest.approx(0, abs=1e-12)
    for beta in (0.0, 0.3, 1.0):
        expected = -(1 - beta) * independent + beta * model(EVERY) / 1.7
        torch.testing.assert_close(model.annealed(beta, logits, 1.7)(EVERY), expected)


def test_the_zero_sum_gauge_has_the_same_interactions_and_no_sums():
    model = small_potts()
    j = zero_sum(model.couplings)
    assert float(j.sum(1).abs().max()) < 1e-12
    assert float(j.sum(3).abs().max()) < 1e-12

    def interaction(c: torch.Tensor) -> torch.Tensor:  # what no change of gauge changes
        return c - c[:, :1] - c[..., :1] + c[:, :1, :, :1]

    torch.testing.assert_close(interaction(j), interaction(model.couplings))


def test_the_contacts_are_the_strongest_pairs():
    """Frobenius norms with the correction, by loops; a pair that alone interacts comes first."""
    model = small_potts()
    j = zero_sum(model.couplings).tolist()
    n = SITES
    norm = [[math.sqrt(sum(v * v for row in (j[a][s][b] for s in range(STATES)) for v in row))
             for b in range(n)] for a in range(n)]  # fmt: skip
    mean = [sum(norm[a]) / (n - 1) for a in range(n)]
    total = sum(map(sum, norm)) / (n * (n - 1))
    for a, b in itertools.permutations(range(n), 2):
        expected = norm[a][b] - mean[a] * mean[b] / total
        assert float(model.contacts()[a, b]) == pytest.approx(expected, abs=1e-9)
    model.weight.data[:] = 0
    model.weight.data[1, :, 3] = torch.eye(STATES).double()
    assert divmod(int(model.contacts().argmax()), n) == (1, 3)


def test_fields_begin_at_the_frequencies():
    x = torch.tensor([[0.0], [0.0], [2.0]])
    model = Potts(event_shape=(1,), states=3, training_points=x, pseudocount=0.3)
    p = torch.softmax(model.fields[0], 0)
    expected = [(f + 0.1) / 1.3 for f in (2 / 3, 0, 1 / 3)]
    assert p.tolist() == pytest.approx(expected, rel=1e-5)
