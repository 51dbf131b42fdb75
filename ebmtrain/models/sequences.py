"""Points as sequences, for the models that read them step by step."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ebmtrain.masks import present, zero_filled


class Read(NamedTuple):
    """Points as a model reads them."""

    values: Tensor
    """(batch, length, channels); 0 at steps that are not there."""
    there: Tensor | None
    """(batch, length), bool: the steps that are there; None: all of them."""


class Steps(NamedTuple):
    """What a point is as a sequence."""

    length: int
    channels: int
    ragged: bool = False
    """Sequences are of different lengths: see `masks`."""

    @classmethod
    def of(cls, event_shape: tuple[int, ...], ragged: bool = False) -> Steps:
        """(length, channels), or (length,) for one channel.

        Raises:
            ValueError: points of another kind.
        """
        if len(event_shape) not in (1, 2):
            raise ValueError(
                f"it reads sequences, (length, channels) or (length,), and points have shape "
                f"{tuple(event_shape)}: choose another model or dataset"
            )
        length, channels = event_shape if len(event_shape) == 2 else (event_shape[0], 1)
        return cls(length, channels, ragged)

    def read(self, x: Tensor) -> Read:
        """Of (batch, *event)."""
        x = x.reshape(-1, self.length, self.channels)
        if not self.ragged:  # a NaN is one, and is seen
            return Read(x, None)
        there = present(x)
        return Read(zero_filled(x, there), there)
