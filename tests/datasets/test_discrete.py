"""Data without a density are named before training, and uniform noise gives them one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ebmtrain.datasets.discrete import lattice_steps
from ebmtrain.datasets.file import from_file
from ebmtrain.datasets.read_for_model import read_for_model
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.errors import CheckpointError, DataError

R = np.random.default_rng(0)
N = 400
REAL = R.normal(size=(N, 1))
COUNTS = R.poisson(3, (N, 1)).astype(float)
ONE_HOT = np.eye(3)[R.integers(0, 3, N)]
REMEDY = "dataset.dequantize=true"


def read(tmp_path, x, names=None, **options):
    if names is None:
        file = tmp_path / "x.npy"
        np.save(file, x)
    else:
        file = tmp_path / "x.csv"
        np.savetxt(file, x, "%.12g", delimiter=",", header=",".join(names), comments="")
    return from_file(path=str(file), seed=1, **options)


STEPS = {
    "counts": (COUNTS, 1.0),
    "hundreds": (100 * COUNTS - 40, 100.0),
    "half stars": (COUNTS / 2, 0.5),
    "codes": (R.choice([10, 20, 40], (N, 1)), 10.0),
    "a flag": (R.integers(0, 2, (N, 1)), 1.0),
    "real": (REAL, 0.0),
    "rounded": (REAL.round(3), 0.0),
    "many whole numbers": (R.permutation(N)[:, None] * 7.0, 0.0),
    "larger than whole numbers are exact": (COUNTS * 1e17, 0.0),
}


@pytest.mark.parametrize("case", STEPS)
def test_the_step_of_a_column(case):
    x, step = STEPS[case]
    assert lattice_steps(np.asarray(x, float)).tolist() == [step]


def test_steps_of_arrays():
    pixels = R.integers(0, 9, (N, 4, 4)).astype(float)
    pixels[:, 0] = 0  # a constant border
    assert lattice_steps(pixels).tolist() == [1]
    channels = np.stack([np.hstack([REAL, COUNTS])] * 3, 1)
    channels[0, 2] = np.nan
    assert lattice_steps(channels).tolist() == [0, 1]
    assert lattice_steps(R.integers(0, 9, (N, 3, 4, 4)) * 2.0).tolist() == [2]


def test_integer_columns_are_named_and_continuous_ones_are_not(tmp_path):
    x = np.hstack([REAL, COUNTS])
    (note,) = read(tmp_path, x, ["size", "visits"]).notes
    assert "column visits hold" in note
    assert "have no density" in note
    assert REMEDY in note
    assert "the NLL minus the sum of log h is then an upper bound" in note
    assert "size" not in note
    assert "column 2 hold" in read(tmp_path, x).notes[0]
    assert not read(tmp_path, REAL).notes
    (note,) = read(tmp_path, R.integers(0, 256, (N, 4, 4))).notes
    assert "all numbers of" in note
    assert REMEDY in note


def test_one_hot_columns_are_named_as_classes(tmp_path):
    x = np.hstack([REAL, ONE_HOT, REAL + 1, COUNTS])
    one_hot, counts = read(tmp_path, x, ["a", "red", "green", "blue", "b", "c"]).notes
    assert "columns red, green, blue are one-hot" in one_hot
    assert "dataset.columns=[a,b,c]" in one_hot
    assert "dataset.labels" in one_hot
    assert "drop one" in one_hot
    assert "column c hold" in counts
    flags = np.hstack([REAL, R.integers(0, 2, (N, 2))])
    (note,) = read(tmp_path, flags, ["a", "x", "y"]).notes
    assert "one-hot" not in note
    assert "columns x, y hold" in note


def test_noise_of_one_step_on_discrete_columns_only(tmp_path):
    x = np.hstack([REAL, 5 * COUNTS])
    points = read(tmp_path, x, dequantize=True, standardize=False)
    assert not points.notes
    assert points.row_numbers is not None
    original = torch.from_numpy(x)[points.row_numbers]
    noise = torch.cat([points.train, points.holdout]) - original
    assert (noise[:, 0] == 0).all()
    assert ((noise[:, 1] >= 0) & (noise[:, 1] < 5)).all()
    # Uniform in [0, 5), at 4 standard errors.
    assert abs(float(noise[:, 1].mean()) - 2.5) < 4 * 5 / 12**0.5 / N**0.5
    batches = torch.stack([points.to(dtype=torch.float64).batch(e, 320, 0).x for e in (0, 1)])
    fresh = batches.sort(1).values
    assert torch.equal(fresh[0, :, 0], fresh[1, :, 0])
    assert not torch.equal(fresh[0, :, 1], fresh[1, :, 1])
    again = read(tmp_path, x, dequantize=True, standardize=False)
    assert torch.equal(again.holdout, points.holdout)


def test_one_hot_columns_can_be_whitened_after_dequantization(tmp_path):
    with pytest.raises(DataError, match="cannot be whitened"):
        read(tmp_path, ONE_HOT, standardize="whiten")
    read(tmp_path, ONE_HOT, standardize="whiten", dequantize=True)


def test_dequantization_of_continuous_data_is_refused(tmp_path):
    with pytest.raises(DataError, match="no values that are whole numbers"):
        read(tmp_path, REAL, dequantize=True)


def test_the_noise_is_kept_with_the_model_and_added_to_files_that_it_reads(tmp_path):
    x = np.hstack([REAL, 5 * COUNTS])
    spec = DataSpec.of(read(tmp_path, x, dequantize=True))
    spec = DataSpec.from_state(spec.state_dict())
    assert spec.steps is not None
    assert spec.steps.tolist() == [0, 5]
    options = {"dequantize": True, "seed": 1}
    read_again = read_for_model(str(tmp_path / "x.npy"), None, options, spec)
    noise = read_again - torch.from_numpy(x)
    assert (noise[:, 0] == 0).all()
    assert ((noise[:, 1] >= 0) & (noise[:, 1] < 5)).all()
    assert noise[:, 1].std() > 1
    # Points of the model, which are dequantized, stay as they are.
    np.save(tmp_path / "samples.npy", read_again)
    assert torch.equal(
        read_for_model(str(tmp_path / "samples.npy"), None, options, spec), read_again
    )
    plain = DataSpec.of(read(tmp_path, x)).state_dict()
    assert "steps" not in plain
    whole = read_for_model(
        str(tmp_path / "x.npy"), None, {"dequantize": False}, spec.from_state(plain)
    )
    assert torch.equal(whole, torch.from_numpy(x))
    for wrong in (torch.tensor([1.0, -1.0]).double(), torch.ones(3).double(), torch.ones(2), "1"):
        with pytest.raises(CheckpointError, match="its steps"):
            DataSpec.from_state(plain | {"steps": wrong})


def test_files_of_values_that_are_no_multiples_of_the_step_get_the_noise(tmp_path):
    x = np.hstack([REAL, 5 * COUNTS + 2])
    spec = DataSpec.of(read(tmp_path, x, dequantize=True))
    noise = read_for_model(str(tmp_path / "x.npy"), None, {"seed": 1}, spec) - torch.from_numpy(x)
    assert noise[:, 1].std() > 1


def test_noise_is_on_the_values_of_the_trained_lattice_only(tmp_path):
    x = np.hstack([REAL, COUNTS])
    spec = DataSpec.of(read(tmp_path, x, dequantize=True))
    spec = DataSpec.from_state(spec.state_dict())
    odd, between = x.copy(), np.add(x, [0, 0.5])
    odd[0, 1] = 2.12345

    def n_noisy(values, spec):
        np.save(tmp_path / "y.npy", values)
        read_again = read_for_model(str(tmp_path / "y.npy"), None, {"seed": 1}, spec)
        return int((read_again[:, 1] != torch.from_numpy(values)[:, 1]).sum())

    assert n_noisy(odd, spec) == N - 1
    assert n_noisy(between, spec) == n_noisy(between[:1], spec) == 0
    assert n_noisy(x[:1], spec) == 1
    assert n_noisy(np.hstack([REAL, 3 * REAL.round(2)]), spec) == 0
    earlier = spec.state_dict()
    del earlier["origins"]
    assert n_noisy(odd, DataSpec.from_state(earlier)) == N - 1
    for wrong in (torch.ones(3).double(), torch.full((2,), torch.nan).double(), "1"):
        with pytest.raises(CheckpointError, match="its origins"):
            DataSpec.from_state(earlier | {"origins": wrong})
