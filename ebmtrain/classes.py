"""Whether a method, a model and data agree about classes."""

from __future__ import annotations

from typing import Any

from torch import nn

from ebmtrain.errors import ConfigError
from ebmtrain.types import Dataset, Method


def check_classes(method: Method, energy: nn.Module, dataset: Dataset) -> None:
    """
    Raises:
        ConfigError: the method learns from labels and the data have none, or the model has not one
            output for each class.
    """
    if not getattr(method, "needs_labels", False):
        return
    labels: Any = getattr(dataset, "labels", None)
    if labels is None:
        raise ConfigError(
            f"method {type(method).__name__} learns from labels and these data have none: "
            "method=pcd, or data with labels (dataset=wine)"
        )
    wanted, found = len(labels.names), getattr(energy, "classes", None)
    if not hasattr(energy, "joint"):
        raise ConfigError(
            f"model {type(energy).__name__} tells no classes apart, which method "
            f"{type(method).__name__} needs: model=mlp model.classes={wanted}"
        )
    if found != wanted:
        raise ConfigError(
            f"model.classes is {'null' if found is None else found}, the data have {wanted} "
            f"classes: model.classes={wanted}"
        )
