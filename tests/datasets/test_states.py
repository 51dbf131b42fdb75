"""Data sets of binary states."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from repeats import assert_mean, seeded
from states import every_state

from ebmtrain.datasets.bars_and_stripes import bars_and_stripes
from ebmtrain.datasets.digits_binary import digits_binary
from ebmtrain.datasets.file import from_file
from ebmtrain.datasets.gaussian_mixture import ring_of_gaussians
from ebmtrain.datasets.gray_toy import _GrayCells, gray_toy
from ebmtrain.datasets.ising_samples import ising_samples
from ebmtrain.datasets.moons import Moons
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.datasets.support import BINARY, REAL
from ebmtrain.errors import CheckpointError, ConfigError, DataError
from ebmtrain.types import Region


def test_bars_and_stripes_of_three_pixels():
    """16 patterns, of which 14 are distinct; no model can have more than -41.589 nats of them."""
    data = bars_and_stripes(side=3, copies=2)
    patterns = data.holdout
    assert (len(data.train), len(patterns), len(patterns.unique(dim=0))) == (32, 16, 14)
    rows, columns = (patterns == patterns.mean(axis, keepdim=True) for axis in (1, 2))
    assert (rows.flatten(1).all(1) | columns.flatten(1).all(1)).all()
    assert -16 * data.truth.entropy == pytest.approx(-41.589, abs=1e-3)
    every = every_state(9).view(-1, 3, 3)
    p = data.truth.log_prob(every).exp()
    assert float(p.sum()) == pytest.approx(1)
    assert -float(torch.special.xlogy(p, p).sum()) == pytest.approx(data.truth.entropy)
    drawn = data.truth.sample(500, seeded())
    assert data.truth.log_prob(drawn).isfinite().all()


def test_binary_digits_are_split_and_keep_their_classes():
    data = digits_binary(seed=0)
    assert (data.train.shape[1:], len(data.train) + len(data.holdout)) == ((8, 8), 1797)
    assert len(data.labels.train) == len(data.train)
    assert set(data.train.unique().tolist()) == {0.0, 1.0}
    assert DataSpec.of(data).support is BINARY


def test_states_are_not_standardized_and_chains_start_at_states():
    data = bars_and_stripes()
    assert torch.equal(data.standardization.to_standard(data.train), data.train)
    like, region = torch.empty(4000, 9), Region(torch.zeros(9), torch.ones(9))
    for x in (BINARY.chain_starts(like, region, seeded()),
              BINARY.method_starts(like, 1.5, seeded())):  # fmt: skip
        assert set(x.unique().tolist()) == {0.0, 1.0}
        assert (x.mean(0) - 0.5).abs().max() < 4.5 * 0.5 / 4000**0.5
    assert BINARY.method_starts_nll(like, 1.5).tolist() == pytest.approx([9 * math.log(2)] * 4000)


def test_the_space_is_saved_with_the_model():
    spec = DataSpec.of(bars_and_stripes())
    assert DataSpec.from_state(spec.state_dict()).support is BINARY
    zero = torch.zeros(2, dtype=torch.float64)
    real = spec._replace(support=REAL).state_dict()
    assert "space" not in real  # as in checkpoints of earlier versions
    assert DataSpec.from_state(real).support is REAL
    assert zero.shape == (2,)
    with pytest.raises(CheckpointError, match="its space is 'ternary'"):
        DataSpec.from_state(spec.state_dict() | {"space": "ternary"})


def states_file(folder, **changes) -> str:
    x = (np.random.default_rng(0).random((50, 4)) < 0.4).astype(float)
    x[:, 2] = 1  # a constant column, as corner pixels are
    for place, value in changes.get("values", {}).items():
        x[place] = value
    np.savetxt(folder / "bits.csv", x, fmt="%g", delimiter=",", header="a,b,c,d", comments="")
    return str(folder / "bits.csv")


def test_a_file_of_states(tmp_path):
    data = from_file(path=states_file(tmp_path), states="binary", seed=0)
    assert (data.support, data.notes) == (BINARY, ())
    assert torch.equal(data.standardization.to_standard(data.train), data.train)


def test_numbers_that_are_no_states_are_named(tmp_path):
    path = states_file(tmp_path, values={(6, 3): 0.417})
    with pytest.raises(DataError, match=r"element 4 of row 7 .* is 0.417, .* states 0 and 1"):
        from_file(path=path, states="binary", seed=0)


@pytest.mark.parametrize("option", [{"standardize": "whiten"}, {"dequantize": True}])
def test_states_are_neither_standardized_nor_dequantized(tmp_path, option):
    with pytest.raises(ConfigError, match="states are neither"):
        from_file(path=states_file(tmp_path), states="binary", seed=0, **option)


def test_a_file_of_zeros_and_ones_is_told_of_states(tmp_path):
    x = np.random.default_rng(0).integers(0, 2, (60, 3))
    np.save(tmp_path / "x.npy", x)
    notes = from_file(path=str(tmp_path / "x.npy"), seed=0).notes
    assert any("dataset.states=binary" in note for note in notes)


def test_ising_samples_are_those_of_the_torus():
    data = ising_samples(side=3, sigma=0.2, n_train=3000, n_holdout=10, seed=0)
    x = every_state(9).view(-1, 3, 3)
    log_p = data.truth.log_prob(x)
    assert float(log_p.exp().sum()) == pytest.approx(1)
    assert -float(log_p.exp() @ log_p) == pytest.approx(data.truth.entropy, abs=1e-9)
    s = (2 * x - 1).flatten(1)
    energy = -torch.einsum("ni,ij,nj->n", s, data.truth.couplings, s)
    torch.testing.assert_close(log_p, -energy - data.truth.log_z)
    assert DataSpec.of(data).support is BINARY
    for i, j in ((0, 1), (0, 4), (2, 0)):
        product = s[:, i] * s[:, j]
        drawn = (2 * data.train - 1).flatten(1)
        assert_mean(drawn[:, i] * drawn[:, j], float(log_p.exp() @ product), 4.5)


MOONS, RING = Moons(std=0.5), ring_of_gaussians(count=3, radius=2.0, std=0.8)


def test_neighbours_in_gray_code_differ_in_one_bit():
    cells = _GrayCells(MOONS, 4, 5.0)
    codes = cells._encode(torch.arange(16)[:, None].expand(-1, 2))
    assert ((codes[1:] != codes[:-1]).sum((1, 2)) == 2).all()  # one of either coordinate
    assert torch.equal(cells._decode(codes), torch.arange(16)[:, None].expand(-1, 2))


@pytest.mark.parametrize("bits", [3, 9])
def test_probabilities_of_cells_are_integrals_of_the_density(bits):
    """By sums over a finer grid; the table of few bits and the quadrature of many."""
    cells = _GrayCells(RING, bits, 6.0)
    centre = torch.tensor([[2**bits // 2 + 1, 2**bits // 3]])
    width, fine = 12 / 2**bits, 200
    low = centre.double() * width - 6
    offsets = (torch.arange(fine).double() + 0.5) * width / fine
    x = low + torch.cartesian_prod(offsets, offsets)
    mass = float(RING.log_prob(x).exp().mean()) * width**2
    found = float(cells.log_prob(cells._encode(centre)).exp())
    assert found == pytest.approx(mass, rel=1e-3)


def test_gray_toys_have_a_distribution_that_sums_to_one():
    data = gray_toy(density=RING, bits=3, half_width=6.0, n_train=4000, n_holdout=10, seed=0)
    x = every_state(6).view(-1, 2, 3)
    p = data.truth.log_prob(x).exp()
    assert float(p.sum()) == pytest.approx(1)
    assert -float(torch.special.xlogy(p, p).sum()) == pytest.approx(data.truth.entropy)
    for site in range(6):
        mean = float(p @ x.flatten(1)[:, site])
        assert_mean(data.train.flatten(1)[:, site], mean, 4.5)
    assert float(data.truth.sample(5, seeded()).sum()) >= 0


def test_the_entropy_of_many_bits_is_that_of_finer_cells():
    """Twice as many cells along both axes have 2 ln 2 more."""
    coarse, fine = (_GrayCells(RING, bits, 6.0).entropy for bits in (8, 9))
    assert fine - coarse == pytest.approx(2 * math.log(2), abs=1e-3)
