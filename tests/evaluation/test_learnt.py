"""The learnt log Z gives an NLL, and is compared with what evaluations find."""

from __future__ import annotations

import math

import pytest
import torch
from test_normaliser import make_input

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.evaluation.learnt import check_learnt_log_z
from ebmtrain.models.gaussian import Gaussian


@pytest.fixture
def model():
    g = torch.Generator().manual_seed(0)
    x = 7 + 3 * torch.randn(400, 2, dtype=torch.float64, generator=g)
    points = Points(x, x[:100], standardization=fit_standardization(x, True))
    return make_input(Gaussian(event_shape=(2,)), points)


def test_nll_is_mean_energy_plus_log_z(model):
    """Of the standard Gaussian in the data's units, whose log Z is log(2 pi) + log volume."""
    log_z = math.log(2 * math.pi) + model.standardization.log_volume
    found = check_learnt_log_z({"log_z_learnt": log_z}, model)
    u = model.standardization.to_standard(model.dataset.holdout)
    nll = float(u.square().sum(1).mean()) / 2 + log_z
    assert found.metrics["nll_learnt"] == pytest.approx(nll, abs=1e-9)
    assert found.warnings == []


@pytest.mark.parametrize(
    ("others", "warns"),
    [
        ({"log_z": 1.95}, False),
        ({"log_z": 1.85}, True),
        ({"log_z": 2.15}, True),
        ({"log_z": 1.5, "log_z_se": 0.2}, False),
        ({"log_z": 1.5, "log_z_se": 0.1}, True),
        ({"log_z_lower": 1.0, "log_z_upper": 3.0}, False),
        ({"log_z_lower": 2.2, "log_z_upper": 3.0}, True),
        ({"log_z": 1.95, "log_z_lower": 1.94, "log_z_upper": 1.96}, False),
    ],
)
def test_a_difference_beyond_the_error_is_a_warning(model, others, warns):
    found = check_learnt_log_z({"log_z_learnt": 2.0, **others}, model)
    assert bool(found.warnings) is warns
    if warns:
        assert "log_z_learnt is 2 nats, and log Z is " in found.warnings[0]
        assert "raise train.steps" in found.warnings[0]
