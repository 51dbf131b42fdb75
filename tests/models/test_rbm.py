"""The energy of an RBM is that of its definition, by sums over hidden states."""

from __future__ import annotations

import math

import pytest
import torch
from states import every_state, joint_energy, small_rbm

from ebmtrain.models.rbm import Rbm
from ebmtrain.score import flip_differences


@pytest.mark.parametrize("centred", [False, True])
def test_the_energy_sums_out_the_hidden_units(centred):
    model, hidden = small_rbm((2, 2), centred=centred), every_state(3)
    for v in every_state(4).view(-1, 2, 2):
        weights = [math.exp(-joint_energy(model, v, h)) for h in hidden]
        assert float(model(v[None])) == pytest.approx(-math.log(sum(weights)), abs=1e-12)
        mean = sum(w * h for w, h in zip(weights, hidden, strict=True)) / sum(weights)
        torch.testing.assert_close(model.hidden(v[None])[0], mean)
    for h in hidden:
        states = every_state(4).view(-1, 2, 2)
        weights = [math.exp(-joint_energy(model, v, h)) for v in states]
        mean = sum(w * v for w, v in zip(weights, states, strict=True)) / sum(weights)
        torch.testing.assert_close(model.visible(h[None])[0], mean)


@pytest.mark.parametrize(("shape", "hidden"), [((2, 3), 3), ((2,), 5)])
def test_log_z_is_the_sum_over_all_states(shape, hidden):
    """Over the smaller layer, which is the hidden or the visible one."""
    model = small_rbm(shape, hidden)
    total = sum(
        math.exp(-joint_energy(model, v, h))
        for v in every_state(math.prod(shape))
        for h in every_state(hidden)
    )
    assert float(model.log_z(1.0)) == pytest.approx(math.log(total), abs=1e-9)
    assert model.log_z(2.0) is None
    assert Rbm(hidden=23, event_shape=(23,)).log_z(1.0) is None


def test_flip_differences_are_differences_of_energies():
    model, x = small_rbm(), every_state(6).view(-1, 2, 3)
    sites = torch.tensor([4, 0])
    found = model.flip_differences(x, sites)
    torch.testing.assert_close(found, flip_differences(model.forward, x, sites))
    for k, site in enumerate(sites):
        flipped = x.clone().flatten(1)
        flipped[:, site] = 1 - flipped[:, site]
        torch.testing.assert_close(found[:, k], model(flipped.view(x.shape)) - model(x))


def test_it_begins_at_the_frequencies_of_the_data():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    model = Rbm(hidden=4, event_shape=(2,), training_points=x, weight_std=1e-6)
    p = torch.sigmoid(model.visible_bias)
    torch.testing.assert_close(p, torch.tensor([4 / 5, 2 / 5]))


def test_centred_gradients_are_covariances():
    """dE/dW summed against weights of zero sum is that of (v - m)(h - 1/2)."""
    x = every_state(6)[1::7].view(-1, 2, 3)
    model = small_rbm(centred=True, training_points=x).requires_grad_(True)
    v = every_state(6).view(-1, 2, 3)[[3, 60, 17, 9]]
    c = torch.tensor([1.0, -1.0, 0.5, -0.5], dtype=torch.float64)
    (gradient,) = torch.autograd.grad((c * model(v)).sum(), model.weight)
    h = model.hidden(v).detach() - 0.5
    centred = v.flatten(1) - model.mean
    torch.testing.assert_close(gradient, -torch.einsum("n,ni,nj->ij", c, centred, h))
    p = (x.flatten(1).sum(0) + 1) / (len(x) + 2)
    torch.testing.assert_close(model.mean, p, atol=1e-6, rtol=0)


def test_the_annealed_rbm_goes_from_independent_states_to_the_model():
    model, x = small_rbm(), every_state(6).view(-1, 2, 3)
    logits = torch.linspace(-1, 1, 6, dtype=torch.float64)
    torch.testing.assert_close(model.annealed(1.0, logits)(x), model(x))
    base = model.annealed(0.0, logits)
    torch.testing.assert_close(base(x), -x.flatten(1) @ logits - 3 * math.log(2))
    torch.testing.assert_close(
        base.visible(torch.ones(1, 3).double())[0].flatten(), logits.sigmoid()
    )
