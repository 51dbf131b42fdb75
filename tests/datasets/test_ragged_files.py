"""Sequences of different lengths in files, and what is said of those that are none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ebmtrain import masks
from ebmtrain.datasets.file import from_file
from ebmtrain.datasets.spec import DataSpec, fingerprint
from ebmtrain.errors import CheckpointError, DataError

STEPS = np.array([3, 6, 4, 1, 5, 2, 6, 3, 4, 5])
VALUES = np.random.default_rng(0).normal([2.0, -30.0], [1.0, 4.0], (10, 6, 2))
PADDED = np.where((np.arange(6) < STEPS[:, None])[..., None], VALUES, np.nan)


def long_table(x: np.ndarray) -> str:
    rows = [
        f"s{i},{0.5 * t},{step[0]!r},{step[1]!r}"
        for i, sequence in enumerate(x.tolist())
        for t, step in enumerate(sequence)
        if not math.isnan(step[0])
    ]
    np.random.default_rng(1).shuffle(rows)
    return "\n".join(["id,t,a,b", *rows])


def write(kind: str) -> dict:
    match kind:
        case "npz":
            np.savez("x.npz", x=VALUES, lengths=STEPS)  # what stands behind the ends is not read
        case "npz, named":
            np.savez("x.npz", x=VALUES, z=VALUES, lengths=STEPS.astype(np.uint8))
            return {"path": "x.npz", "array": "x"}
        case "npz, longer":
            np.savez("x.npz", x=np.concatenate([VALUES, VALUES], 1), lengths=STEPS)
        case "npy":
            np.save("x.npy", PADDED)
            return {"path": "x.npy"}
        case "npy, longer":
            np.save("x.npy", np.concatenate([PADDED, np.full((10, 3, 2), np.nan)], 1))
            return {"path": "x.npy"}
        case "csv":
            Path("x.csv").write_text(long_table(PADDED))
            return {"path": "x.csv", "id": "id", "time": "t"}
    return {"path": "x.npz"}


def rows(points) -> list:
    x = np.concatenate([points.train.numpy(), points.holdout.numpy()])
    assert x.shape == PADDED.shape
    return sorted(x[~np.isnan(x)].tolist())


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("kind", ["npz", "npz, named", "npz, longer", "npy", "npy, longer", "csv"])
def test_every_file_format_gives_the_same_sequences(kind):
    points = from_file(**write(kind), seed=1)
    assert rows(points) == sorted(PADDED[~np.isnan(PADDED)].tolist())
    steps = torch.cat([masks.lengths(points.train), masks.lengths(points.holdout)])
    assert steps.sort().values.tolist() == sorted(STEPS.tolist())
    assert bool(masks.finite_mask(points.train).all())


@pytest.mark.usefixtures("folder")
def test_equal_lengths_give_unpadded_sequences():
    np.savez("x.npz", x=VALUES, lengths=np.full(10, 4))
    points = from_file(path="x.npz", seed=1)
    assert points.train.shape[1:] == (4, 2)
    assert not DataSpec.of(points).ragged


def with_value(*where, value=np.nan) -> np.ndarray:
    x = PADDED.copy()
    x[where] = value
    return x


BAD_ARRAYS = {
    "in the middle": (with_value(1, 2), "has nan in row 2, column 3, 1 (counted from 1)"),
    "one channel": (with_value(1, 5, 1), "has nan in row 2, column 6, 2"),
    "nothing there": (with_value(4), "has nan in row 5, column 1, 1"),
    "infinite": (with_value(2, 3, 0, value=np.inf), "has inf in row 3, column 4, 1"),
    "no sequences": (PADDED[..., 0], "has nan in row 1, column 4"),
    "images": (PADDED[..., None], "has nan in row 1, column 4, 1, 1"),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_a_nan_inside_a_sequence_is_refused(case):
    x, message = BAD_ARRAYS[case]
    np.save("x.npy", x)
    with pytest.raises(DataError) as caught:
        from_file(path="x.npy", seed=1)
    assert message in str(caught.value)
    assert "leave out rows that are not finite" in str(caught.value)


BAD_LENGTHS = {
    "too long": ({"x": VALUES, "lengths": STEPS + 1}, "is 7 in row 2 (counted from 1)"),
    "none": ({"x": VALUES, "lengths": STEPS - 1}, "is 0 in row 4 (counted from 1)"),
    "fractions": ({"x": VALUES, "lengths": STEPS / 1.0}, "float64 of shape (10,): save a whole"),
    "too few": ({"x": VALUES, "lengths": STEPS[:9]}, "int64 of shape (9,): save a whole number"),
    "no sequences": ({"x": VALUES[..., 0], "lengths": STEPS}, "its points have shape (10, 6)"),
    "two": (
        {"x": VALUES, "y": VALUES, "lengths": STEPS},
        "2 arrays: choose one with dataset.array=NAME",
    ),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("case", BAD_LENGTHS)
def test_invalid_lengths_are_refused_in_one_line(case):
    arrays, message = BAD_LENGTHS[case]
    np.savez("x.npz", **arrays)
    with pytest.raises(DataError) as caught:
        from_file(path="x.npz", seed=1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("folder")
def test_a_named_array_may_be_the_sequences_or_the_lengths():
    np.savez("x.npz", x=VALUES[..., 0], lengths=STEPS)
    assert from_file(path="x.npz", array="x", seed=1).train.shape[1:] == (6,)
    assert from_file(path="x.npz", array="lengths", seed=1).train.shape[1:] == (1,)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,t,v\na,0,1\na,1,2\nb,0,3\nb,2,4\nb,3,1\n", "step 2 of id a at t 1, of id b at t 2"),
        ("id,t,v\na,0,1\nb,0,3\nb,1,4\nc,0,1\nc,2,1\n", "step 2 of id c at t 2, of id b at t 1"),
        ("id,t,v\na,0,1\na,1,2\nb,1,3\n", "step 1 of id b at t 1, of id a at t 0"),
    ],
)
def test_times_must_agree_up_to_the_length(text, message):
    Path("x.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        from_file(path="x.csv", id="id", time="t", seed=1)


@pytest.mark.usefixtures("folder")
def test_standardization_is_per_channel_over_present_steps():
    points = from_file(**write("npy"), holdout=0.1, seed=1)
    there = points.train[masks.step_mask(points.train)]
    units = points.standardization
    assert units.shift.shape == units.scale.shape == (6, 2)
    torch.testing.assert_close(units.shift[3], there.mean(0))
    torch.testing.assert_close(units.scale[5], there.std(0, correction=0))
    u = units.to_standard(points.train)
    torch.testing.assert_close(units.to_data(u), points.train, equal_nan=True)
    with pytest.raises(DataError, match=r"cannot be whitened: dataset\.standardize=true"):
        from_file(path="x.npy", standardize="whiten", seed=1)


@pytest.mark.usefixtures("folder")
def test_a_data_spec_holds_the_lengths():
    points = from_file(**write("npy"), seed=1)
    spec = DataSpec.of(points)
    assert spec.lengths is not None
    steps = masks.lengths(points.train)
    assert spec.lengths.tolist() == [int((steps == n).sum()) for n in range(1, 7)]
    u = points.standardization.to_standard(points.train)[masks.step_mask(points.train)]
    torch.testing.assert_close(spec.region.low.view(6, 2)[4], u.amin(0))
    torch.testing.assert_close(spec.region.high.view(6, 2)[0], u.amax(0))
    again = DataSpec.from_state(spec.state_dict())
    assert again.lengths is not None
    assert again.lengths.tolist() == spec.lengths.tolist()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "wrong",
    [torch.ones(6), torch.ones(5, dtype=torch.int64), torch.zeros(6, dtype=torch.int64),
     torch.arange(6) - 1, [1] * 6],
    ids=["floats", "another length", "no sequence", "negative", "a list"],
)  # fmt: skip
def test_invalid_lengths_in_a_checkpoint_are_refused(wrong):
    spec = DataSpec.of(from_file(**write("npy"), seed=1))
    with pytest.raises(CheckpointError, match="lengths are not counts"):
        DataSpec.from_state(spec.state_dict() | {"lengths": wrong})


@pytest.mark.usefixtures("folder")
def test_the_fingerprint_depends_on_lengths_and_not_on_nan_bits():
    def of(x: np.ndarray) -> str:
        np.save("x.npy", x)
        return fingerprint(from_file(path="x.npy", standardize=False, seed=1))

    other = np.where(np.isnan(PADDED), -PADDED, PADDED)  # another sign bit
    assert (np.signbit(other) != np.signbit(PADDED)).any()
    assert of(other) == of(PADDED)
    assert of(with_value(1, 5)) != of(PADDED)
