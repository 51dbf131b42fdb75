"""What follows from the space that events live in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from repeats import seeded

from ebmtrain.datasets.digits import digits
from ebmtrain.datasets.images import image_dataset
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.datasets.split import random_split
from ebmtrain.datasets.support import REAL, Continuous, support_of
from ebmtrain.evaluation.exact import Quadrature
from ebmtrain.evaluation.protocol import EvaluationInput
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Region, Standardization

LEVELS = 17


def images(standardize="range") -> Points:
    k = np.random.default_rng(0).integers(0, LEVELS, (30, 3, 4))
    found = image_dataset(
        k, levels=LEVELS, holdout=0.2, standardize=standardize, dequantize=False, shift=0,
        flip=False, seed=0,
    )  # fmt: skip
    assert isinstance(found, Points)
    return found


def test_range_standardization_maps_bounds_to_minus_one_and_one():
    units = images().standardization
    ends = torch.tensor([0.0, LEVELS], dtype=torch.float64).view(2, 1, 1).expand(2, 3, 4)
    assert units.to_standard(ends)[:, 0, 0].tolist() == [-1, 1]
    assert units.shift.dtype == torch.float64
    other = Continuous((-2.0, 6.0)).standardization(torch.zeros(5, 2), "range")
    assert (other.shift.tolist(), other.scale.tolist()) == ([2, 2], [4, 4])


@pytest.mark.parametrize("scaling", [True, False, "whiten"])
def test_other_standardizations_ignore_bounds(scaling):
    x = torch.randn(50, 3, generator=seeded(), dtype=torch.float64)
    one, two = (s.standardization(x, scaling) for s in (REAL, Continuous((-9.0, 9.0))))
    assert all(a is b or torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_range_standardization_needs_bounds():
    with pytest.raises(ValueError, match="needs data with bounds"):
        REAL.standardization(torch.zeros(2, 2), "range")


def test_standardization_transforms_the_support():
    """Through a change of type, through batches that change, and into the run's data spec."""
    plain = images()
    assert plain.support == Continuous((0.0, float(LEVELS)))
    assert plain.to(dtype=torch.float64).support == plain.support
    changing = digits(seed=0)
    assert support_of(changing) == Continuous((0.0, 17.0))
    assert DataSpec.of(plain).support == plain.support
    table = random_split(
        torch.randn(9, 2, generator=seeded()), holdout=0.2, standardize=True, seed=0
    )
    assert DataSpec.of(table).support is REAL


def test_the_default_support_is_real():
    assert support_of(object()) is REAL
    assert support_of(None) is REAL


def test_chains_start_uniform_in_the_region():
    region = Region(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0]))
    like = torch.empty(4000, 2, dtype=torch.float64)
    x = REAL.chain_starts(like, region, seeded())
    assert (x.shape, x.dtype) == (like.shape, like.dtype)
    assert torch.equal(x, REAL.chain_starts(like, region, seeded()))
    assert ((x >= region.low) & (x <= region.high)).all()
    width = region.high - region.low
    error = 4 * width / 12**0.5 / 4000**0.5
    assert ((x.mean(0) - (region.low + region.high) / 2).abs() < error).all()


def test_the_base_distribution_has_the_moments_of_the_points():
    x = torch.randn(500, 2, generator=seeded(), dtype=torch.float64) @ torch.tensor(
        [[2.0, 0.0], [1.0, 0.5]], dtype=torch.float64
    )
    z = REAL.base(x).whiten(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(torch.cov(z.T), torch.eye(2, dtype=torch.float64), atol=0.02, rtol=0)


class BoxRequest(Exception):
    pass


class RaisingSupport(Continuous):
    def integration_box(self, region: Region, margin: float) -> Region:
        raise BoxRequest(region, margin)


class Bowl(torch.nn.Module):
    def forward(self, x):
        return x.square().sum(1) / 2


def test_quadrature_uses_the_box_of_the_support():
    def unused(*_):
        raise AssertionError

    one = torch.ones(1, dtype=torch.float64)
    region = Region(-5 * one, 5 * one)
    inputs = EvaluationInput(
        energy=Bowl(), temperature=1.0, region=region, dataset=None,
        standardization=Standardization(0 * one, one), draw=unused, sampler=Mala(step_size=0.1),
        method={}, trace=unused, generator=unused, support=RaisingSupport(),
    )  # fmt: skip
    with pytest.raises(BoxRequest) as asked:
        Quadrature(every=1, margin=0.2)(inputs)
    assert asked.value.args == (region, 0.2)
    box = REAL.integration_box(region, 0.2)
    assert (box.low.item(), box.high.item()) == pytest.approx((-7, 7))
