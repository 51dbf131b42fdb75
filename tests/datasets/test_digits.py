"""Images as points: dequantised, in units of their pixels, scaled to [-1, 1]."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ebmtrain.datasets.digits import digits
from ebmtrain.datasets.images import image_dataset

PIXELS = load_digits().images


def test_every_digit_occurs_once_and_is_dequantised():
    points = digits(seed=3)
    every = torch.cat([points.train, points.holdout])
    assert (len(every), len(points.holdout)) == (1797, round(0.2 * 1797))
    assert points.train.shape[1:] == (8, 8)
    assert sorted(every.floor().flatten(1).tolist()) == sorted(PIXELS.reshape(1797, -1).tolist())
    noise = every - every.floor()
    n = noise.numel()
    assert abs(noise.mean() - 1 / 2) < 4 * (1 / 12 / n) ** 0.5  # uniform: mean, variance
    assert abs(noise.var() - 1 / 12) < 4 * (1 / 180 / n) ** 0.5
    again, other = digits(seed=3), digits(seed=4)
    assert torch.equal(points.train, again.train)
    assert not torch.equal(points.train, other.train)
    held = digits(seed=3, dequantize=False).train
    assert torch.equal(held, points.train.floor() + 0.5)


def test_range_standardization_and_its_log_volume():
    """The uniform density over all pixels has NLL d log 17 in the data's units, d log 2 in those
    of the model: the difference is the log volume."""
    points = digits(seed=0)
    u = points.standardization.to_standard(torch.cat([points.train, points.holdout]))
    assert -1 <= u.min() < -0.9
    assert 0.9 < u.max() <= 1
    assert points.standardization.to_standard(torch.full((1, 8, 8), 17.0)).unique() == 1
    volume = points.standardization.log_volume
    assert volume == pytest.approx(64 * (math.log(17) - math.log(2)))
    batch = points.batch(0, 7, 0).x
    assert batch.shape == (7, 8, 8)
    assert batch.abs().max() <= 1


def test_labels_belong_to_their_images():
    points, bunch = digits(seed=3), load_digits()
    known = dict(zip(map(bytes, bunch.images.astype(np.uint8)), bunch.target.tolist(), strict=True))
    x, y = points.batch(2, 50, 0)
    pixels = points.standardization.to_data(x).floor().byte()
    assert points.labels is not None
    assert y is not None
    assert points.labels.names == tuple("0123456789")
    for images, labels in ((pixels, y), (points.holdout.floor().byte(), points.labels.holdout)):
        assert [known[bytes(image.numpy())] for image in images] == labels.tolist()


@pytest.mark.parametrize("standardize", ["range", "whiten"])
def test_each_batch_draws_new_dequantisation_noise(standardize):
    """A pure function of (step, size, seed); each image once an epoch, whatever its noise is."""
    plain = digits(seed=0, dequantize=False)
    points = digits(seed=0, standardize=standardize).to(dtype=torch.float64)
    steps = [points.standardization.to_data(points.batch(i, 719, 5).x) for i in range(4)]
    first, second = torch.cat(steps[:2]), torch.cat(steps[2:])
    whole = [x.add(1e-9).floor().flatten(1) for x in (first, second, plain.train)]
    for found in whole[:2]:
        assert sorted(found.tolist()) == sorted(whole[2].tolist())
    noise = first - first.add(1e-9).floor()
    n = noise.numel()
    assert abs(noise.mean() - 1 / 2) < 4 * (1 / 12 / n) ** 0.5
    together = [x.flatten(1).sort(0).values for x in (first, second)]
    assert (together[0] - together[1]).abs().max() > 1e-3  # other noise in the next epoch
    again = points.batch(3, 719, 5).x
    assert torch.equal(again, points.batch(3, 719, 5).x)
    assert not torch.equal(again, points.batch(3, 719, 6).x)
    assert points.to(dtype=torch.float32).batch(0, 3, 0).x.dtype == torch.float32


@pytest.mark.parametrize("standardize", [True, "whiten"])
def test_other_standardizations_are_those_of_points(standardize):
    points = digits(seed=0, standardize=standardize)
    u = points.standardization.to_standard(points.train).flatten(1)
    torch.testing.assert_close(u.mean(0), torch.zeros(64, dtype=u.dtype), rtol=0, atol=1e-9)
    if standardize == "whiten":
        identity = torch.eye(64, dtype=u.dtype)
        torch.testing.assert_close(u.T @ u / len(u), identity, rtol=0, atol=1e-8)


def test_held_out_images_are_given_or_random_and_n_train_is_random():
    images = np.arange(40, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)

    def points(holdout, **options):
        return image_dataset(images, levels=256, holdout=holdout, standardize="range",
                            dequantize=True, shift=0, flip=False, seed=1, **options)  # fmt: skip

    drawn, given = points(0.25), points(images[:3], n_train=12)
    assert (len(drawn.train), len(drawn.holdout)) == (30, 10)
    both = torch.cat([drawn.train, drawn.holdout])[:, 0, 0].floor().sort().values
    assert both.tolist() == list(range(40))
    assert given.holdout.floor()[:, 0, 0].tolist() == [0, 1, 2]
    assert len(given.train) == 12
    assert given.train[:, 0, 0].floor().tolist() != list(range(12))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["conv", "resnet"])
def test_verify_passes_for_image_models(command, model):
    """`ebmtrain verify`, on the real digits."""
    words = (f"model={model}", "model.widths=[8,8,8]", "dataset=digits", "method=dsm",
             "train.batch_size=64", "device.threads=1")  # fmt: skip
    outcome = command("verify", *words)
    assert outcome.code == 0, outcome.out
    assert outcome.lines[-1] == "all properties hold"
