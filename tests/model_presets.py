"""The models of the presets that are shipped."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.utils import get_object, instantiate
from torch import nn

PRESETS = Path(__file__).parents[1] / "configs" / "model"
IMAGES = {"conv": (9, 8), "resnet": (2, 5, 6)}  # models of images, each of an odd size
SEQUENCES = {"conv1d": (17, 2), "lstm": (5, 2), "transformer": (6, 3)}  # length, channels


def preset(name: str, **changes: Any) -> nn.Module:
    """As the builder makes it, for points of the plane, images or sequences, where the model does
    not fix its own."""
    config = yaml.safe_load((PRESETS / f"{name}.yaml").read_text()) | changes
    if "event_shape" in inspect.signature(get_object(config["_target_"])).parameters:
        config.setdefault("event_shape", event_of(name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return instantiate(config, _convert_="all")


def event_of(name: str) -> tuple[int, ...]:
    return (IMAGES | SEQUENCES).get(name, (2,))
