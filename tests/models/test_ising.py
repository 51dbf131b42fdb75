"""The Ising model is that of its definition, and its sweep a Gibbs sweep."""

from __future__ import annotations

import itertools

import pytest
import torch
from repeats import seeded
from states import every_state, small_ising

from ebmtrain.models.ising import Ising
from ebmtrain.models.pair_selection import fit_couplings, select_pairs
from ebmtrain.models.sweep.ops import pair_sweep
from ebmtrain.runtime import native
from ebmtrain.score import flip_differences


def test_the_energy_counts_each_pair_twice():
    model = small_ising((2, 2))
    j, h = model.couplings, model.h
    assert torch.equal(j, j.T)
    assert not j.diagonal().any()
    for x in every_state(4).view(-1, 2, 2):
        s = (2 * x - 1).flatten().tolist()
        pairs = itertools.product(range(4), repeat=2)
        energy = -sum(float(j[a, b]) * s[a] * s[b] for a, b in pairs)
        energy -= sum(float(h[a]) * s[a] for a in range(4))
        assert float(model(x[None])) == pytest.approx(energy, abs=1e-12)


def test_flips_and_annealed_energies():
    model, x = small_ising((2, 3)), every_state(6).view(-1, 2, 3)
    sites = torch.tensor([4, 0])
    found = model.flip_differences(x, sites)
    torch.testing.assert_close(found, flip_differences(model.forward, x, sites))
    logits = torch.linspace(-1, 1, 6, dtype=torch.float64)
    for beta in (0.0, 0.3, 1.0):
        expected = -(1 - beta) * x.flatten(1) @ logits + beta * model(x) / 1.7
        torch.testing.assert_close(model.annealed(beta, logits, 1.7)(x), expected)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_log_z_of_a_torus_is_the_sum_over_all_states(temperature):
    model = small_ising((3, 3), lattice="torus", std=0.4)
    assert int((model.couplings != 0).sum()) == 36
    total = (-model(every_state(9).view(-1, 3, 3)) / temperature).logsumexp(0)
    assert float(model.log_z(temperature)) == pytest.approx(float(total), abs=1e-9)
    assert small_ising((3, 3)).log_z(1.0) is None
    with pytest.raises(ValueError, match=r"shape \(2, 3\): model.lattice=null"):
        Ising(lattice="torus", event_shape=(2, 3))


@pytest.fixture
def without_native():
    before, triton = native.enabled(), native.triton_enabled()
    yield lambda: native.set_enabled(False)
    native.set_enabled(before, triton=triton)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("states", [2, 5, 9, 21, 40])
def test_the_sweep_in_cpp_is_that_of_torch(dtype, states, without_native):
    """Of seven chains, some computed together; more states than C++ has are those of torch."""
    native.set_enabled(True)
    g, sites = seeded(), 6
    couplings = torch.randn(sites, sites, states, states, generator=g, dtype=dtype)
    couplings[range(sites), range(sites)] = 0
    fields = torch.randn(sites, states, generator=g, dtype=dtype)
    x = torch.randint(states, (7, sites), generator=g).to(dtype)
    uniform = torch.rand(7, sites, generator=g, dtype=dtype)
    found, kept = pair_sweep(x, uniform, couplings, fields), x.clone()
    without_native()
    assert torch.equal(found, pair_sweep(x, uniform, couplings, fields))
    assert torch.equal(x, kept)


def test_a_sweep_under_vmap_is_that_of_each_member(without_native):
    g = seeded()
    couplings = torch.randn(3, 4, 4, 2, 2, generator=g)
    x = torch.randint(2, (3, 5, 4), generator=g).float()
    uniform, fields = torch.rand(3, 5, 4, generator=g), torch.zeros(4, 2)
    found = torch.vmap(pair_sweep, (0, 0, 0, None))(x, uniform, couplings, fields)
    for i in range(3):
        assert torch.equal(found[i], pair_sweep(x[i], uniform[i], couplings[i], fields))


def samples(model: Ising, n: int) -> torch.Tensor:
    d = len(model.h)
    x = every_state(d)
    p = torch.softmax(-model(x.view(-1, *model.event_shape)), 0)
    return x[torch.multinomial(p, n, True, generator=seeded(3))]


def test_the_fit_is_the_maximum_of_the_pseudo_likelihood():
    """By its gradient, and where no pair is left out the fields are as good as none."""
    x = samples(small_ising((5,), std=0.3, fields=False), 3000)
    kept = 1 - torch.eye(5, dtype=torch.float64)
    kept[0, 1] = kept[1, 0] = 0
    model = small_ising((5,), fields=False).requires_grad_(True)
    model.weight.data = fit_couplings(x, kept)
    assert model.weight[0, 1] == 0
    nll = torch.nn.functional.softplus(-model.flip_differences(x, torch.arange(5))).sum(1).mean()
    (gradient,) = torch.autograd.grad(nll, model.weight)
    assert float((gradient * kept).abs().max()) < 1e-4
    assert float(gradient.abs().max()) > 1e-2


@pytest.mark.parametrize("l1", [None, 0.2])
def test_the_pairs_of_a_chain_are_selected(l1):
    """With fields, which are no pairs. The strength by held-out points takes some more."""
    model, i = small_ising((8,), std=0.0), torch.arange(7)
    model.weight.data[i, i + 1] = 0.4
    model.h.data = torch.linspace(-0.2, 0.2, 8, dtype=torch.float64)
    found = select_pairs(samples(model, 6000), l1, seeded(5))
    assert torch.equal(found, found.T)
    assert (found[i, i + 1] == 1).all()
    assert int(found.sum()) // 2 <= (7 if l1 else 10)  # of 28
