"""Models read a padded sequence as they read the same sequence alone."""

from __future__ import annotations

import math

import pytest
import torch
from ragged import CHANNELS, FEWEST, KINDS, LONGEST, alone, model, padded, resized
from repeats import normal
from torch import Tensor, nn

from ebmtrain.score import score

EVERY = pytest.mark.parametrize("which", sorted(KINDS))


def unpadded_energies(energy, x: Tensor) -> Tensor:
    return torch.cat([resized(energy, one.shape[1])(one) for one in alone(x)])


@EVERY
def test_padding_does_not_change_the_energy(which):
    energy, x = model(which), padded(list(range(FEWEST[which], LONGEST + 1)))
    torch.testing.assert_close(energy(x), unpadded_energies(energy, x))
    assert len({round(e, 9) for e in energy(x).tolist()}) == len(x)


@EVERY
@pytest.mark.parametrize("longer", [20, 33])
def test_the_energy_does_not_depend_on_the_amount_of_padding(which, longer):
    """As long as the longest of all data is, which no sequence may depend on."""
    energy, x = model(which), padded(list(range(1, LONGEST + 1)))
    more = torch.full((len(x), longer - LONGEST, CHANNELS), math.nan, dtype=x.dtype)
    torch.testing.assert_close(
        resized(energy, longer, ragged=True)(torch.cat([x, more], 1)), energy(x)
    )


@EVERY
def test_the_energy_does_not_depend_on_the_rest_of_the_batch(which):
    energy, x = model(which), padded([5, 16, 9, 1])
    each = torch.cat([energy(row[None]) for row in x])
    torch.testing.assert_close(energy(x), each)


@EVERY
def test_full_length_sequences_have_the_energies_of_a_fixed_length_model(which):
    x = normal(6, LONGEST, CHANNELS)
    torch.testing.assert_close(model(which)(x), model(which, ragged=False)(x))


@EVERY
def test_scores_are_those_of_the_sequence_and_zero_on_padding(which):
    energy, x = model(which), padded([4, 16, 7, 12])
    found = score(energy, x.clone())
    for row, one in zip(found, alone(x), strict=True):
        n = one.shape[1]
        torch.testing.assert_close(row[None, :n], score(resized(energy, n), one))
        assert (row[n:] == 0).all()


@EVERY
def test_a_nan_inside_a_sequence_gives_a_nan_energy(which):
    """A chain that has diverged must not pass for a shorter sequence."""
    x = padded([5, 16, 9, 12])
    x[0, 2] = math.nan
    x[1, 15, 1] = math.nan
    x[2] = math.nan
    assert model(which)(x).isnan().tolist() == [True, True, True, False]
    whole = normal(2, LONGEST, CHANNELS)
    whole[0, -1] = math.nan
    assert model(which, ragged=False)(whole).isnan().tolist() == [True, False]


@EVERY
@pytest.mark.parametrize("step", [0, 4, 8])
def test_energy_depends_on_every_present_step(which, step):
    energy, x = model(which, base_std=None), padded([9] * 8)
    moved = x.clone()
    moved[:, step] += 1
    assert not torch.isclose(energy(x), energy(moved), rtol=1e-6).any()


def test_lstm_reads_backwards_from_the_last_present_step():
    """Both states, and those of packed sequences, which torch reads so by itself."""
    energy, steps = model("lstm"), torch.tensor([6, 16, 1, 11])
    x = padded(steps.tolist()).nan_to_num(0.0)
    packed = nn.utils.rnn.pack_padded_sequence(x, steps, batch_first=True, enforce_sorted=False)
    _, (h, _) = energy.lstm(packed)
    torch.testing.assert_close(energy.ragged_end_states(x, steps), torch.cat([h[-2], h[-1]], 1))
