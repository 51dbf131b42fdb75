"""Batches, splits and standardization."""

from __future__ import annotations

import hashlib

import pytest
import torch

from ebmtrain.datasets.moons import Moons
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.datasets.toy import toy
from ebmtrain.types import Batch, Dataset


def numbered(count=103, standardize=False) -> Points:
    """Points that know their own index."""
    x = torch.arange(count, dtype=torch.float32)[:, None]
    return Points(x, -x - 1, standardization=fit_standardization(x, standardize))


def indices(points: Points, steps, size, seed=0) -> torch.Tensor:
    return torch.cat([points.batch(step, size, seed).x[:, 0] for step in steps]).long()


def fingerprint(points: Points) -> str:
    parts = (points.train, points.holdout, points._standardized)
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


@pytest.mark.parametrize("size", [1, 10, 64, 103])
def test_each_point_occurs_once_per_epoch(size):
    points = numbered()
    epochs = 4
    seen = indices(points, range(103 * epochs // size + 1), size)
    for epoch in range(epochs):
        order = seen[epoch * 103 : (epoch + 1) * 103]
        assert sorted(order.tolist()) == list(range(103))


def test_epochs_and_seeds_have_different_permutations():
    points = numbered()
    orders = [indices(points, [epoch], 103, seed) for epoch in (0, 1, 2) for seed in (0, 1)]
    assert len({tuple(order.tolist()) for order in orders}) == 6
    assert orders[0].tolist() != sorted(orders[0].tolist())


def test_permutations_are_uniform():
    """The first index of each epoch is uniform: 2,000 epochs of 10 points, 4 standard errors."""
    points = numbered(10)
    first = torch.stack([indices(points, [10 * epoch], 1) for epoch in range(2000)]).flatten()
    error = (2000 * 0.1 * 0.9) ** 0.5
    assert ((first.bincount(minlength=10) - 200).abs() < 4 * error).all()


def test_a_batch_depends_only_on_its_arguments():
    forwards, elsewhere = numbered(), numbered()
    in_order = [forwards.batch(step, 30, 5).x for step in range(12)]
    for step in (11, 3, 7, 0, 3):
        elsewhere.batch(step + 1, 7, 6)  # another question between does not matter
        assert torch.equal(elsewhere.batch(step, 30, 5).x, in_order[step])


def test_batches_do_not_change_the_data():
    points = toy(density=Moons(), n_train=100, n_holdout=50, seed=1)
    before = fingerprint(points)
    for step in range(8):
        batch = points.batch(step, 30, 0)
        batch.x.mul_(0)  # what a method does to its batch is its own affair
    assert fingerprint(points) == before
    assert points.batch(0, 30, 0).x.abs().min() > 0


def test_held_out_points_are_never_in_a_batch():
    points = numbered()
    seen = torch.cat([points.batch(step, 50, 0).x for step in range(10)])
    assert seen.min() >= 0
    assert points.holdout.max() < 0


@pytest.mark.parametrize("size", [0, -1, 104])
def test_a_batch_size_out_of_range_is_refused(size):
    with pytest.raises(ValueError, match=f"batch size {size} does not fit the 103 .* 1 to 103"):
        numbered().batch(0, size, 0)


def test_standardization_has_an_inverse():
    points = toy(density=Moons(), n_train=1000, n_holdout=10, seed=1)
    u = points.batch(0, 1000, 0).x
    assert u.dtype == torch.float32
    torch.testing.assert_close(u.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(u.std(0, correction=0), torch.ones(2), atol=1e-5, rtol=0)
    back = points.standardization.to_data(points.standardization.to_standard(points.holdout))
    torch.testing.assert_close(back, points.holdout)
    assert sorted(points.standardization.to_data(u)[:, 0].tolist()) == pytest.approx(
        sorted(points.train[:, 0].tolist()), abs=1e-5
    )


def test_without_standardization_units_are_unchanged():
    points = toy(density=Moons(), n_train=100, n_holdout=10, standardize=False, seed=1)
    u = points.batch(0, 100, 0).x
    assert sorted(u[:, 0].tolist()) == sorted(points.train[:, 0].float().tolist())
    assert points.standardization.log_volume == 0


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9, -3e-20])
def test_a_constant_coordinate_becomes_zero(value):
    x = torch.stack([torch.full((1000,), value), torch.arange(1000.0)], 1).double()
    standardization = fit_standardization(x, True)
    assert standardization.scale[0] == 1
    assert standardization.to_standard(x)[:, 0].abs().max() < 1e-6


def test_a_coordinate_of_tiny_spread_is_standardized():
    x = 5 + 1e-6 * torch.randn(100, 1, dtype=torch.float64)
    assert fit_standardization(x, True).to_standard(x).std() == pytest.approx(1, abs=0.01)


def test_points_may_have_any_shape():
    x = torch.randn(20, 3, 4)
    points = Points(x[:15], x[15:], standardization=fit_standardization(x[:15], True))
    assert points.batch(0, 6, 0).x.shape == (6, 3, 4)
    assert points.standardization.scale.shape == (3, 4)


def test_batches_of_another_dtype_have_the_same_points():
    points = numbered(standardize=True)
    double = points.to(dtype=torch.float64)
    assert double.batch(3, 50, 1).x.dtype == torch.float64
    assert points.batch(3, 50, 1).x.dtype == torch.float32
    torch.testing.assert_close(double.batch(3, 50, 1).x.float(), points.batch(3, 50, 1).x)


def test_a_large_offset_costs_no_precision():
    """At 1e6 the neighbours of a float32 are 0.06 away; the data are 1e-3 wide."""
    u = torch.randn(1000, 2, dtype=torch.float64)
    x = 1e6 + 1e-3 * u
    units = fit_standardization(x, True)
    points = Points(x, x, standardization=units).to(dtype=torch.float32)
    batch = points.batch(0, 1000, 0).x
    assert len(batch[:, 0].unique()) > 990
    torch.testing.assert_close(batch.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(units.to_data(units.to_standard(x)), x, atol=1e-9, rtol=0)
    torch.testing.assert_close(points.train, x, atol=0, rtol=0)


def test_a_toy_has_its_exact_density():
    density = Moons()
    points: Dataset = toy(density=density, n_train=300, n_holdout=200, seed=1)
    assert points.truth is density
    assert (len(points.train), len(points.holdout)) == (300, 200)
    assert isinstance(points.batch(0, 10, 0), Batch)


def test_training_and_held_out_points_are_independent():
    points = toy(density=Moons(), n_train=200, n_holdout=200, seed=1)
    assert torch.cdist(points.train, points.holdout).min() > 0
    more = toy(density=Moons(), n_train=300, n_holdout=200, seed=1)
    assert torch.equal(more.holdout, points.holdout)


def test_points_of_a_toy_depend_on_its_seed():
    one, again, other = (
        toy(density=Moons(), n_train=50, n_holdout=50, seed=seed) for seed in (1, 1, 2)
    )
    assert fingerprint(one) == fingerprint(again) != fingerprint(other)
    assert torch.cdist(one.train, other.train).min() > 0


def online_points(**options) -> Dataset:
    return toy(density=Moons(), n_train=50, n_holdout=50, seed=1, fresh=True, **options)


def test_online_batches_never_repeat_a_point():
    """Nor are they the training or the held-out points, or alike for another seed."""
    points = online_points(standardize=False)
    seen = torch.cat([points.batch(step, 200, seed).x for step in range(5) for seed in (1, 2)])
    assert len(seen.unique(dim=0)) == 2_000
    for other in (points.train, points.holdout):
        assert torch.cdist(seen.double(), other).min() > 0


def test_an_online_batch_depends_only_on_its_arguments():
    points, again = online_points(), online_points()
    again.batch(7, 30, 5)
    assert torch.equal(points.batch(3, 30, 5).x, again.batch(3, 30, 5).x)


def test_online_batches_have_the_density_and_units_of_the_training_points():
    """Mean and variance of the Moons, 4 standard errors, after the way back to the data's units;
    in the type that is asked for."""
    points, whole = online_points(), Moons().sample(50_000, torch.Generator().manual_seed(9))
    double = points.to(dtype=torch.float64)  # type: ignore[attr-defined]
    u = double.batch(0, 50_000, 0).x
    assert u.dtype == torch.float64
    assert points.batch(0, 5, 0).x.dtype == torch.float32
    x = points.standardization.to_data(u)
    for power in (1, 2):
        one, two = x**power, whole**power
        error = ((one.var(0) + two.var(0)) / 50_000).sqrt()
        assert ((one.mean(0) - two.mean(0)).abs() < 4 * error).all()
    assert torch.equal(points.standardization.shift, points.train.mean(0))
