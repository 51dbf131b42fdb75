"""Points as sequences, for the models that read them step by step."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Steps(NamedTuple):
    """What a point is as a sequence."""

    length: int
    channels: int

    @classmethod
    def of(cls, event_shape: tuple[int, ...]) -> Steps:
        """(length, channels), or (length,) for one channel.

        Raises:
            ValueError: points of another kind.
        """
        if len(event_shape) not in (1, 2):
            raise ValueError(
                f"it reads sequences, (length, channels) or (length,), and points have shape "
                f"{tuple(event_shape)}: choose another model or dataset"
            )
        return cls(*event_shape) if len(event_shape) == 2 else cls(event_shape[0], 1)

    def read(self, x: Tensor) -> Tensor:
        """(batch, *event) -> (batch, length, channels)."""
        return x.reshape(-1, self.length, self.channels)
