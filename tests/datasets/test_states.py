"""Data sets of binary states."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from repeats import seeded
from states import every_state

from ebmtrain.datasets.bars_and_stripes import bars_and_stripes
from ebmtrain.datasets.digits_binary import digits_binary
from ebmtrain.datasets.file import from_file
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
