"""A class that is left out is nowhere but among the anomalies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_wine

from ebmtrain.datasets.bundled import bundled
from ebmtrain.datasets.digits import digits
from ebmtrain.datasets.file import from_file
from ebmtrain.datasets.images import image_dataset
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.errors import ConfigError, DataError


def to_bytes(pixels: torch.Tensor) -> list[bytes]:
    return [bytes(image.numpy()) for image in pixels.add(1e-6).floor().byte()]


@pytest.mark.parametrize("dequantize", [True, False])
def test_the_class_is_absent_from_training_and_held_out_set(dequantize):
    """By the pixels themselves, whatever the labels say."""
    bunch = load_digits()
    class_of = dict(zip(map(bytes, bunch.images.astype(np.uint8)), bunch.target, strict=True))
    points = digits(seed=1, without=3, dequantize=dequantize).to(dtype=torch.float64)
    n = len(points.train)
    batches = [points.standardization.to_data(points.batch(i, n // 2, 0).x) for i in range(3)]
    for seen in (points.train, points.holdout, *batches):
        assert 3 not in {class_of[image] for image in to_bytes(seen)}
    assert points.anomalies is not None
    found = to_bytes(points.anomalies)
    assert {class_of[image] for image in found} == {3}
    assert len(found) == int((bunch.target == 3).sum())
    assert n + len(points.holdout) + len(found) == 1797
    assert points.labels is not None
    assert points.labels.train.unique().tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_the_split_of_the_other_classes_is_unchanged():
    whole, points = (digits(seed=1, without=c, dequantize=False) for c in (None, 3))
    assert whole.anomalies is None
    assert whole.labels is not None
    for name in ("train", "holdout"):
        others = getattr(whole.labels, name) != 3
        assert torch.equal(getattr(points, name), getattr(whole, name)[others])


def test_standardization_ignores_the_left_out_class():
    points, table = bundled(name="wine", without=2, seed=0), load_wine()
    assert points.anomalies is not None
    assert sorted(points.anomalies[:, 0].tolist()) == sorted(table.data[table.target == 2, 0])
    for found, right in zip(
        points.standardization[:2], fit_standardization(points.train, True)[:2], strict=True
    ):
        assert torch.equal(found, right)


def test_the_class_is_left_out_of_a_separate_held_out_file():
    images, labels = np.arange(12, dtype=np.uint8).reshape(12, 1, 1), np.arange(12) % 3
    points = image_dataset(
        images, levels=256, holdout=images + 100, standardize="range", dequantize=False, shift=0,
        flip=False, seed=0, labels=labels, holdout_labels=labels, classes=("a", "b", "c"),
        without=1,
    )  # fmt: skip
    assert points.anomalies is not None
    assert sorted(points.anomalies.flatten().tolist()) == [
        k + 0.5 for k in (1, 4, 7, 10, 101, 104, 107, 110)
    ]
    assert len(points.train) == len(points.holdout) == 8


def test_invalid_classes_are_refused():
    with pytest.raises(DataError, match=r"dataset.without is 3: classes of these data are 0 to 2"):
        bundled(name="wine", without=3, seed=0)
    images = np.zeros((4, 2, 2), np.uint8)

    def split_points(labels):
        return image_dataset(
            images, levels=2, holdout=0.5, standardize="range", dequantize=False, shift=0,
            flip=False, seed=0, labels=labels, classes=("a", "b"), without=1,
        )  # fmt: skip

    with pytest.raises(DataError, match=r"no classes to leave out: dataset.without=null"):
        split_points(None)
    for labels in (np.zeros(4, int), np.ones(4, int)):
        with pytest.raises(DataError, match="none may be 0: leave out another class"):
            split_points(labels)


def test_label_marks_the_anomalies_of_a_file(tmp_path):
    """Rows of label 1 are in neither part, and other labels are refused."""
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 4 == 0
    for labels in (y, y.astype(int), y.astype(float)):
        np.savez(tmp_path / "table.npz", X=x, y=labels)
        points = from_file(path=str(tmp_path / "table.npz"), label="y", seed=0)
        assert points.anomalies is not None
        assert sorted(points.anomalies[:, 0].tolist()) == sorted(x[y, 0])
        assert len(points.train) + len(points.holdout) == 30
    for wrong in (np.arange(40) % 3, np.arange(40) % 2 + 1):
        np.savez(tmp_path / "table.npz", X=x, y=wrong)
        with pytest.raises(DataError, match=r"dataset.label needs 0 for normal points and 1"):
            from_file(path=str(tmp_path / "table.npz"), label="y", seed=0)
    with pytest.raises(ConfigError, match=r"give only one kind"):
        from_file(path=str(tmp_path / "table.npz"), label="y", without=0, seed=0)
