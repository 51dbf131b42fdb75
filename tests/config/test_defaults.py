"""A part built by hand, with no options given, is the part of its preset."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.utils import get_object

CONFIGS = Path(__file__).parents[2] / "configs"
NO_PARTS = ("device", "experiment", "recommended")
PRESETS = sorted(path for path in CONFIGS.glob("*/*.yaml") if path.parent.name not in NO_PARTS)
TARGETS = {yaml.safe_load(path.read_text())["_target_"] for path in PRESETS}


def drift(path: str, node: dict[str, Any]) -> list[str]:
    """Values of a preset that differ from the default of their argument, in this part and in the
    parts below it that have no preset of their own. A part that is optional may be absent by
    default, and an interpolation is no value."""
    parameters = inspect.signature(get_object(node["_target_"])).parameters
    found = []
    for name, value in node.items():
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        if isinstance(value, dict) and "_target_" in value:
            found += [] if value["_target_"] in TARGETS else drift(f"{path}.{name}", value)
        elif default is inspect.Parameter.empty or str(value).startswith("${"):
            continue
        elif plain(value) != plain(default):
            found.append(f"{path}.{name} is {value!r}, and {default!r} by default")
    return found


def plain(value: Any) -> Any:
    """The value as YAML has it: lists for tuples, numbers for words such as 1e-3, six digits."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    try:
        return float(f"{float(value):.6g}") if isinstance(value, str | float) else value
    except ValueError:
        return value


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_default_of_each_argument_is_the_value_of_its_preset(path):
    assert drift(path.stem, yaml.safe_load(path.read_text())) == []
