"""Every preset in turn, by the name people type, and both types of floating point."""

from __future__ import annotations

import pytest
import torch
from model_presets import PRESETS, preset
from torch import nn

from ebmtrain.models.perceptron import selfcheck
from ebmtrain.runtime import native


# Without what is made of finished runs and models of symbols: test_composition.py, test_potts.py.
@pytest.fixture(
    params=sorted({path.stem for path in PRESETS.glob("*.yaml")} - {"composition", "potts"})
)
def name(request) -> str:
    return request.param


@pytest.fixture
def model(name: str) -> nn.Module:
    return preset(name)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request) -> torch.dtype:
    return request.param


@pytest.fixture
def cpp():
    """Perceptrons by C++, as it is set when a test begins; it may set otherwise."""
    before, triton = native.enabled(), native.triton_enabled()
    threads = torch.get_num_threads()
    native.set_enabled(True)
    assert selfcheck.self_check()
    yield
    native.set_enabled(before, triton=triton)
    torch.set_num_threads(threads)
