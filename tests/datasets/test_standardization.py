"""Robust scales. Whitened coordinates: uncorrelated, and undone in everything that is shown."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ebmtrain.datasets.file import from_file
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.errors import CheckpointError, DataError
from ebmtrain.evaluation.exact import Quadrature
from ebmtrain.evaluation.protocol import EvaluationInput
from ebmtrain.models.wrappers import to_data_units
from ebmtrain.samplers.mala import Mala

MIX = torch.tensor([[3.0, 0.0], [-40.0, 5.0]], dtype=torch.float64)
MEAN = torch.tensor([1e3, -7.0], dtype=torch.float64)


def correlated(count=4000) -> torch.Tensor:
    z = torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return MEAN + z @ MIX.T


def unused(*_):
    raise AssertionError


class Normal(nn.Module):
    """E(u) = ||u||^2 / 2."""

    def forward(self, u):
        return u.flatten(1).square().sum(1) / 2


def test_zca_points_are_uncorrelated_and_close_to_their_columns():
    x = correlated()
    units = fit_standardization(x, "whiten")
    u = units.to_standard(x)
    torch.testing.assert_close(u.mean(0), torch.zeros(2).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(u.T @ u / len(u), torch.eye(2).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(units.to_data(u), x)
    simple = fit_standardization(x, True).to_standard(x)
    with_own, with_other = (u * simple).mean(0), (u * simple.flip(1)).mean(0)
    torch.testing.assert_close(units.mixing, units.mixing.T)
    assert (with_own > with_other.abs()).all()


def test_points_with_more_axes_and_single_points():
    x = torch.randn(50, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    units = fit_standardization(x, "whiten")
    u = units.to_standard(x)
    assert u.shape == x.shape
    torch.testing.assert_close(units.to_data(u), x)
    torch.testing.assert_close(units.to_standard(x[7]), u[7])
    turned = x.transpose(1, 2).contiguous().transpose(1, 2)  # the same, otherwise in memory
    torch.testing.assert_close(units.to_standard(turned), u)
    torch.testing.assert_close(units.to_data(u.transpose(0, 2).contiguous().transpose(0, 2)), x)


def test_densities_are_in_the_units_of_the_data():
    """exp(-||u||^2 / 2) of whitened points is the Gaussian with the moments of the points."""
    x = correlated()
    units = fit_standardization(x, "whiten")
    points = Points(x, x, standardization=units)
    spec = DataSpec.of(points)
    u = units.to_standard(x)
    torch.testing.assert_close(spec.region.low, u.amin(0))  # not the corners of the box of x
    found = Quadrature(every=1)(
        EvaluationInput(
            energy=Normal(), temperature=1.0, region=spec.region, standardization=units,
            dataset=points, draw=unused, generator=unused, sampler=Mala(step_size=0.1),
            method={}, trace=unused,
        )
    )  # fmt: skip
    half_log_det = torch.logdet(torch.cov(x.T, correction=0)) / 2
    assert found.metrics["log_z"] == pytest.approx(
        float(math.log(2 * math.pi) + half_log_det), abs=1e-3
    )
    assert found.metrics["nll"] == pytest.approx(1 + found.metrics["log_z"], abs=1e-9)
    torch.testing.assert_close(to_data_units(Normal(), units)(x), u.square().sum(1) / 2)


def test_linearly_dependent_columns_are_refused():
    x = correlated(100)
    x = torch.cat([x, x.sum(1, keepdim=True)], 1)
    with pytest.raises(DataError, match="3 columns of 100 training points span 2 dimensions only"):
        fit_standardization(x, "whiten")


def test_a_data_spec_keeps_the_matrix_and_the_names():
    x = correlated(100)
    points = Points(
        x, x, standardization=fit_standardization(x, "whiten"), names=("mass", "length")
    )
    saved = DataSpec.of(points).state_dict()
    again = DataSpec.from_state(saved)
    assert again.names == ("mass", "length")
    torch.testing.assert_close(
        again.standardization.to_standard(x), points.standardization.to_standard(x)
    )
    for name in saved:
        with pytest.raises(CheckpointError, match="no valid description of its data"):
            DataSpec.from_state({k: v for k, v in saved.items() if k != name})
    for bad in (
        {"mixing": torch.eye(3)}, {"mixing": "x"}, {"mixing": torch.full((2, 2), torch.nan)},
        {"mixing": torch.ones(2, 2).double()}, {"mixing": torch.eye(2)},
        {"names": ["one"]}, {"names": "ab"}, {"names": [1, 2]}, {"names": ["a\x1b", "b"]},
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match="no valid description of its data"):
            DataSpec.from_state(saved | bad)


def test_median_and_quartiles_are_not_changed_by_extreme_values():
    z = torch.randn(4000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = MEAN + z * torch.tensor([3.0, 0.1]).double()
    x[:40, 0] = 1e6
    units = fit_standardization(x, "robust")
    # Standard errors: 1.25 sigma / sqrt(n) of the median, 1.17 sigma / sqrt(n) of the scaled range.
    torch.testing.assert_close(units.shift, MEAN, atol=4 * 1.25 * 3 / 63 + 0.05, rtol=0)
    assert 2.7 < float(units.scale[0]) < 3.3
    assert 0.09 < float(units.scale[1]) < 0.11
    assert units.log_volume == pytest.approx(float(units.scale.log().sum()))
    torch.testing.assert_close(units.to_data(units.to_standard(x)), x)


def test_the_robust_scale_of_a_standard_normal_is_one():
    p = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    units = fit_standardization(torch.special.ndtri(p)[:, None], "robust")
    assert float(units.scale) == pytest.approx(1, abs=1e-3)


def test_robust_units_of_columns_of_few_values_are_finite():
    x = torch.zeros(100, 3).double()
    x[:20, 0] = 5.0  # quartiles are equal
    x[:26, 2] = torch.linspace(0.1, 90, 26)  # the median equals the lower one
    units, plain = fit_standardization(x, "robust"), fit_standardization(x, True)
    assert torch.equal(units.shift, plain.shift)
    assert torch.equal(units.scale, plain.scale)
    ragged = torch.randn(20, 5, 1, dtype=torch.float64)
    ragged[3, 2:] = torch.nan
    units = fit_standardization(ragged, "robust")
    steps = ragged[~ragged.isnan()]
    torch.testing.assert_close(units.shift, steps.quantile(0.5).expand(5, 1))


def test_extreme_values_are_named_before_training_with_the_remedy(tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 2))
    x[17, 1] = 1e4
    np.save(tmp_path / "x.npy", x)
    (note,) = from_file(path=str(tmp_path / "x.npy"), seed=0).notes
    assert "1e+04 (row 18, column 2" in note
    assert "dataset.standardize=robust" in note
    robust = from_file(path=str(tmp_path / "x.npy"), seed=0, standardize="robust")
    assert not robust.notes
    assert (robust.standardization.scale < 1.2).all()
