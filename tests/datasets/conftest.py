"""The densities of the presets that are shipped, by the names people type."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import instantiate

from ebmtrain.types import Density

_PRESETS = Path(__file__).parents[2] / "configs" / "dataset"
_CONTENTS = {path.stem: yaml.safe_load(path.read_text()) for path in _PRESETS.glob("*.yaml")}
NAMES = sorted(  # in the plane
    name for name, content in _CONTENTS.items() if "density" in content and "bits" not in content
)


@cache
def _density(name: str) -> Density:
    return instantiate(_CONTENTS[name]["density"])


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture
def density(name: str) -> Density:
    return _density(name)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20260)
