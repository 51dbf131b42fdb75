"""What the models of images share: the shape of an image, and how weights begin."""

from __future__ import annotations

import math

from torch import nn


def image_shape(event_shape: tuple[int, ...], model: str) -> tuple[int, int, int]:
    """(channels, height, width) of an event; one of two axes, (height, width), has one channel.

    Args:
        model: its name, for the message.

    Raises:
        ValueError: the event is no image.
    """
    if len(event_shape) not in (2, 3):
        raise ValueError(
            f"{model} takes images, events of shape (height, width) or (channels, height, width), "
            f"got {event_shape}: choose model=mlp, or a data set of images"
        )
    channels, height, width = (1, *event_shape)[-3:]
    return channels, height, width


def lecun(layer: nn.Conv2d | nn.Linear) -> None:
    """Weights of variance 1 / (inputs of one unit), biases 0."""
    nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
