"""The split into training and held-out points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ebmtrain.datasets.file import from_file
from ebmtrain.datasets.images import image_dataset
from ebmtrain.datasets.split import random_split, split_rows
from ebmtrain.runtime.seeding import stream

R = np.random.default_rng(0)


def sides(points) -> tuple[set, set]:
    train = {tuple(x.flatten().tolist()) for x in points.train}
    return train, {tuple(x.flatten().tolist()) for x in points.holdout}


@pytest.mark.parametrize("n", [2, 3, 50])
def test_without_copies_the_order_is_a_permutation_of_the_seed(n):
    split = split_rows(R.normal(size=(n, 3)), 0.2, 5)
    assert torch.equal(split.order, torch.randperm(n, generator=stream(5, "split")))
    assert split.n_holdout == max(1, round(0.2 * n))
    assert split.notes == ()


COPIES = {
    "nothing but copies": np.repeat(R.normal(size=(5, 2)), 40, 0),
    "a few": np.concatenate([x := R.normal(size=(100, 2)), x[:7]]),
    "most are one point": np.concatenate([R.normal(size=(20, 2)), np.ones((180, 2)) / 7]),
    "two points": np.repeat([[0.12345], [1.0]], [3, 50], 0),
    "of few decimals": np.repeat(R.normal(size=(60, 3)).round(1), 10, 0),
    "of unequal sizes": np.repeat(R.normal(size=(30, 1)), R.integers(1, 20, 30), 0),
    "in another order": R.permutation(np.repeat(R.normal(size=(50, 2)), 4, 0)),
    "of sequences with padding": np.repeat(
        np.where(np.arange(5)[:, None] < 3, R.normal(size=(10, 5, 2)), np.nan), 3, 0
    ),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", COPIES)
def test_copies_are_on_one_side(case, seed):
    x = np.nan_to_num(COPIES[case], nan=-1.0)
    split = split_rows(COPIES[case], 0.2, seed)
    assert sorted(split.order.tolist()) == list(range(len(x)))
    assert 1 <= split.n_holdout < len(x)
    rows = x.reshape(len(x), -1)[split.order.numpy()]
    held, kept = (
        {tuple(row) for row in part} for part in (rows[: split.n_holdout], rows[split.n_holdout :])
    )
    assert not held & kept
    sizes = np.unique(rows, axis=0, return_counts=True)[1]
    wanted = max(round(0.2 * len(x)), sizes.min())
    assert split.n_holdout <= wanted
    small = sizes[sizes <= wanted]
    assert split.n_holdout >= min(small.sum(), wanted - small.max() + 1) or len(sizes) == 2


def test_the_held_out_points_are_random():
    """Each of 50 points, 4 copies each, is held out in a fifth of 400 splits, at 4 standard
    errors."""
    x = np.repeat(R.normal(size=(50, 1)), 4, 0)
    counts = np.zeros(200)
    for seed in range(400):
        split = split_rows(x, 0.2, seed)
        counts[split.order[: split.n_holdout].numpy()] += 1
    assert (np.abs(counts / 400 - 0.2) < 4.5 * np.sqrt(0.2 * 0.8 / 400)).all()


def test_copies_are_named_with_their_number(tmp_path):
    np.save(tmp_path / "x.npy", COPIES["a few"])
    (note,) = from_file(path=str(tmp_path / "x.npy"), seed=0).notes
    assert "of 107 points 7 are copies" in note
    np.save(tmp_path / "x.npy", COPIES["nothing but copies"])
    (note,) = from_file(path=str(tmp_path / "x.npy"), seed=0).notes
    assert "195 are copies" in note
    assert "5 distinct points are too few" in note
    one = random_split(torch.tensor([[1.5], [2.7], [1.5]]), holdout=0.3, standardize=True, seed=0)
    assert "1 is a copy of another" in one.notes[0]


def test_counts_that_agree_by_chance_are_no_copies():
    """Held-out counts are then the same values as those of training."""
    for x in (R.poisson(3, (300, 1)), R.poisson(3, (300, 2)), np.eye(4)[R.integers(0, 4, 300)]):
        split = split_rows(x.astype(float), 0.2, 0)
        assert split.notes == ()
        assert torch.equal(split.order, torch.randperm(300, generator=stream(0, "split")))


def test_copies_of_pictures_are_on_one_side():
    pictures = np.repeat(R.integers(0, 256, (10, 4, 4)), 5, 0).astype(np.uint8)
    points = image_dataset(
        pictures, levels=256, holdout=0.2, standardize="range", dequantize=False, shift=0,
        flip=False, seed=0, labels=np.repeat(np.arange(10) % 2, 5), classes=("a", "b"),
    )  # fmt: skip
    train, held = sides(points)
    assert not train & held
    assert (len(train), len(held)) == (8, 2)
    assert "40 are copies" in points.notes[0]
