"""Training images that are moved and mirrored again for each batch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from ebmtrain.datasets.digits import digits
from ebmtrain.datasets.images import image_dataset
from ebmtrain.datasets.points import Points
from ebmtrain.errors import DataError

NOISE = np.random.default_rng(0)


def shift_image(image: np.ndarray, down: int, across: int, mirrored: bool) -> np.ndarray:
    """By NumPy: the image with its edge going on, and of that a window."""
    s = max(abs(down), abs(across))
    wide = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(s, s)] * 2, mode="edge")
    height, width = image.shape[-2:]
    window = wide[..., s - down : s - down + height, s - across : s - across + width]
    return window[..., ::-1] if mirrored else window


def augmented(images: np.ndarray, **options) -> Points:
    options = {"shift": 0, "flip": False, "dequantize": True, "standardize": "range"} | options
    return image_dataset(images, levels=256, holdout=images[:1] // 2, seed=1, **options)


def full_batch(points: Points, x: Tensor) -> np.ndarray:
    return points.standardization.to_data(x).add(1e-9).floor().byte().numpy()


@pytest.mark.parametrize("event", [(5, 6), (3, 4, 5)])
@pytest.mark.parametrize("dequantize", [True, False])
@pytest.mark.parametrize(("shift", "flip"), [(1, False), (0, True), (2, True)])
def test_shifts_and_mirrorings_are_uniform(event, dequantize, shift, flip):
    """Of one image, 4,000 times: all (2 s + 1)^2 shifts and both sides, each within 4.5 standard
    errors of its share."""
    image, n = NOISE.integers(0, 256, event, dtype=np.uint8), 4000
    points = augmented(np.stack([image] * n), shift=shift, flip=flip, dequantize=dequantize)
    seen = Counter(
        x.tobytes() for x in full_batch(points, points.to(dtype=torch.float64).batch(0, n, 3).x)
    )
    steps = range(-shift, shift + 1)
    ways = {
        shift_image(image, i, j, mirrored).tobytes()
        for i in steps for j in steps for mirrored in ((False, True) if flip else (False,))
    }  # fmt: skip
    assert len(ways) == (2 * shift + 1) ** 2 * (2 if flip else 1)
    assert set(seen) == ways
    share = 1 / len(ways)
    assert max(abs(k / n - share) for k in seen.values()) < 4.5 * (share * (1 - share) / n) ** 0.5


def test_shifts_and_mirrorings_are_independent():
    """Down, across and mirrored of 4,000 images: correlations within 4 standard errors of none."""
    image, n = NOISE.integers(0, 256, (5, 6), dtype=np.uint8), 4000
    points = augmented(np.stack([image] * n), shift=1, flip=True).to(dtype=torch.float64)
    ways = {
        shift_image(image, i, j, bool(m)).tobytes(): (i, j, m)
        for i in (-1, 0, 1) for j in (-1, 0, 1) for m in (0, 1)
    }  # fmt: skip
    first, second = (
        np.array([ways[x.tobytes()] for x in full_batch(points, points.batch(step, n, 3).x)])
        for step in (0, 1)
    )
    together = np.corrcoef(np.concatenate([first, second], 1).T)
    assert np.abs(together - np.eye(6)).max() < 4 / n**0.5


def test_each_image_occurs_once_per_epoch_with_its_label():
    """A gray value for each image, which no shift changes."""
    images = np.arange(30, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    points = augmented(images, shift=2, flip=True, labels=np.arange(30) % 10,
                  holdout_labels=np.array([0]), classes=tuple("0123456789"))  # fmt: skip
    batches = [points.to(dtype=torch.float64).batch(step, 10, 0) for step in range(3)]
    seen = np.concatenate([full_batch(points, batch.x)[:, 0, 0] for batch in batches])
    assert sorted(seen) == list(range(30))
    assert [y for batch in batches if batch.y is not None for y in batch.y] == list(seen % 10)


def test_a_batch_depends_only_on_step_size_and_seed():
    """So a resumed run sees it again, whatever it saw before."""
    points, other = digits(shift=1, flip=True, seed=0), digits(shift=1, flip=True, seed=0)
    again = [points.batch(step, 50, 5).x for step in (0, 1, 7)][-1]
    assert torch.equal(again, other.batch(7, 50, 5).x)
    assert not torch.equal(again, points.batch(7, 50, 6).x)
    epoch = [digits(shift=1, seed=0, dequantize=False).batch(step, 1438, 5).x for step in (0, 1)]
    sums = [x.flatten(1).sum(1).sort().values for x in epoch]
    assert not torch.equal(*sums)  # the same images, in other places


def test_held_out_images_are_not_augmented():
    plain, changing = digits(seed=2), digits(shift=2, flip=True, seed=2)
    assert torch.equal(plain.holdout, changing.holdout)
    assert not torch.equal(plain.train.floor(), changing.train.floor())
    for points in (plain, changing):
        assert points.labels is not None
        assert torch.equal(points.labels.holdout, plain.labels.holdout)  # type: ignore[union-attr]


def test_standardization_is_fitted_to_augmented_images():
    """A border that is always empty is not any more: in the units of images that stand still the
    ink there would be a hundred standard deviations away."""
    images = np.zeros((500, 6, 6), np.uint8)
    images[:, 1:5, 1:5] = NOISE.integers(0, 256, (500, 4, 4))
    points = augmented(images, shift=1, standardize=True)
    seen = torch.cat([points.batch(step, 100, 0).x for step in range(10)])
    assert seen.abs().max() < 10
    torch.testing.assert_close(seen.std(0), torch.ones(6, 6), rtol=0.3, atol=0)


@pytest.mark.parametrize("shift", [5, 100])
def test_a_shift_of_the_whole_image_is_refused(shift):
    with pytest.raises(DataError, match=rf"dataset.shift is {shift}, .* 5 x 8 .* at most 4"):
        augmented(np.ones((4, 5, 8), np.uint8), shift=shift)


@pytest.mark.parametrize(
    ("word", "said"),
    [("dataset.shift=-1", "dataset.shift must be"), ("dataset.flip=2", "dataset.flip must be"),
     ("dataset.shift=8", "dataset.shift is 8")],
)  # fmt: skip
def test_options_out_of_range_are_refused_in_one_line(command, word, said):
    outcome = command("check", "dataset=digits", word)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1), outcome
    assert said in outcome.err
